/** Tables, bars and records from figures, here and in a guest. */
import test from 'ava';
import { CONTENDERS } from '../../tools/bench/contenders/list.js';
import { parseBenchOptions } from '../../tools/bench/options.js';
import { BARS, type Bar, compareWithBars, formatBars } from '../../tools/bench/report/bars.js';
import { formatFailures, formatFigures } from '../../tools/bench/report/figures-table.js';
import { formatFigure } from '../../tools/bench/report/format-figure.js';
import { Results, rowsOf } from '../../tools/bench/results.js';
import { SIDE_TABLES } from '../../tools/bench/side-tables.js';
import { summarize } from '../../tools/bench/table.js';
import { VM_CONTENDERS } from '../../tools/bench/vm/contenders.js';
import { parseVmOptions } from '../../tools/bench/vm/options.js';
import { reportVm } from '../../tools/bench/vm/report.js';
import { VM_BARS, VM_WORK } from '../../tools/bench/vm/work.js';
import { WORK } from '../../tools/bench/work/list.js';

const ROWS = [{ work: 'up-1', key: 'rate', title: 'up', unit: 'MB/s' }];
const COLUMNS = ['a', 'b', 'c', 'd'].map((id) => ({ id, title: id.toUpperCase() }));
const figures = (results: Results): string => formatFigures(ROWS, COLUMNS, new Set(['c']), results);

function someResults(): Results {
  const results = new Results();
  for (const rate of [100, 300, 200]) results.add('up-1', 'a', { rate });
  results.add('up-1', 'b', { rate: 'it broke' });
  return results;
}

test('a row has the medians, the smallest and the largest below them, and a mark if some rounds failed', (t) => {
  const results = someResults();
  t.regex(figures(results), /^up, MB\/s +200 +fails +missing +–\n +100–300$/m);
  results.add('up-1', 'a', { rate: 'it broke late' });
  t.regex(figures(results), /200 !/);
  t.deepEqual(formatFailures(ROWS, COLUMNS, results), ['A, up-1: it broke late', 'B, up-1: it broke']);
});

test('an outcome that the machine does not allow is not a failure, and rows that do not apply are omitted', (t) => {
  const results = new Results();
  t.false(formatFigures(ROWS, COLUMNS, new Set(), results).includes('MB/s'));
  results.add('up-1', 'a', { rate: 'not tried: needs more' });
  t.regex(figures(results), /not tried/);
});

test('a bar is met by the ratio of medians, or by the figure itself; bars without figures are not shown', (t) => {
  const alone: Bar = { title: 'up', work: 'up-1', key: 'rate', of: 'a', bound: 'least', bar: 201 };
  const bar: Bar = { ...alone, beside: 'd', bar: 2 };
  const results = someResults();
  const [unmeasured] = compareWithBars(results, [bar]);
  t.is(unmeasured?.isMet, undefined);
  t.is(formatBars(compareWithBars(results, [bar])), '');
  results.add('up-1', 'd', { rate: 100 });
  for (const [given, line] of [
    [bar, /^up +a \/ d +2\.00 +≥ 2 +met$/m],
    [{ ...bar, bound: 'most', bar: 1.9 }, /^up +a \/ d +2\.00 +≤ 1\.9 +MISSED$/m],
    [{ ...bar, bar: 2.1 }, /^up +a \/ d +2\.00 +≥ 2\.1 +MISSED$/m],
    [alone, /^up +a +200 +≥ 201 +MISSED$/m],
  ] as const)
    t.regex(formatBars(compareWithBars(results, [given])), line);
});

test('every bar refers to a measured figure of existing contenders', (t) => {
  const rows = rowsOf([...WORK, ...SIDE_TABLES.map(({ work }) => work)], parseBenchOptions([]).amounts);
  for (const { work, key, of, beside = of, title } of BARS) {
    const columns = (SIDE_TABLES.find((table) => table.work.id === work)?.columns ?? CONTENDERS).map(({ id }) => id);
    const isMeasured = rows.some((row) => row.work === work && row.key === key);
    t.true(isMeasured && [of, beside].every((id) => columns.includes(id)), title);
  }
  for (const { work, key, of, beside = of, title } of VM_BARS) {
    const { rows: measured = [], isMultiplexed = false } = VM_WORK.find(({ id }) => id === work) ?? {};
    const able = VM_CONTENDERS.filter((one) => !isMultiplexed || one.isMultiplexed).map(({ id }) => id);
    t.true(measured.some((row) => row.key === key) && [of, beside].every((id) => able.includes(id)), title);
  }
});

test('every row has its own place', (t) => {
  const places = rowsOf(WORK, parseBenchOptions([]).amounts).map(({ work, key }) => `${work} ${key}`);
  t.is(new Set(places).size, places.length);
});

test('figures have three or four digits; the median is the middle one, or the mean of two', (t) => {
  for (const [figure, text] of [
    [0.523, '0.52'],
    [9.994, '9.99'],
    [9.996, '10.0'],
    [99.96, '100'],
    [9999.4, '9999'],
    [9999.6, '10k'],
    [52_340, '52.3k'],
    [1_234_567, '1.23M'],
    [-12.34, '-12.3'],
    [Number.NaN, '?'],
  ] as const)
    t.is(formatFigure(figure), text, `${figure}`);
  t.deepEqual(summarize([5, 1, 30]), { median: 5, min: 1, max: 30 });
  t.deepEqual(summarize([4, 1, 2, 100]), { median: 3, min: 1, max: 100 });
  t.is(summarize([]).median, Number.NaN);
});

test('the report compares a forward with the relay, and a stream in the process with the raw port', (t) => {
  const results = new Results();
  for (const [work, contender, outcomes] of [
    ['up', 'vproxy', { rate: 45 }],
    ['up', 'relay', { rate: 50 }],
    ['echo', 'vproxy', { p50: 112, p99: 200 }],
    ['echo', 'relay', { p50: 80, p99: 90 }],
    ['down', 'mux', { rate: 45 }],
    ['down', 'raw', { rate: 100 }],
    ['beside-bulk', 'vproxy', { p50: 390, p99: 900, up: 10, down: 20 }],
    ['serial-9600', 'vproxy-serial', { alone: 40, p50: 400, most: 'it broke', bulk: 90 }],
  ] as const)
    results.add(work, contender, outcomes);
  const { text, json } = reportVm(parseVmOptions([]), results, 'tcg');
  for (const line of [
    /^In the guest, under tcg:\n\n +vproxy forward +vproxy-guest forward +plain relay +MuxStream in process +raw port$/m,
    /^up, 1 stream +vproxy \/ relay +0\.90 +≥ 0\.8 +met$/m,
    /^down, 1 stream, in the process +mux \/ raw +0\.45 +≥ 0\.5 +MISSED$/m,
    /^echo of 1 B, alone, p50 +vproxy \/ relay +1\.40 +≤ 1\.3 +MISSED$/m,
    /simulated serial line, outside the guest[^]*^9,600 baud: keystroke alone, p50, ms +40\.0 +–$/m,
    /^as tty-open, serial-9600: it broke$/m,
  ])
    t.regex(text, line);
  const report = JSON.parse(json) as { figures: { work: string }[]; options: object };
  t.is(report.figures.length, 16);
  t.like(report.options, { rounds: 5, accelerator: 'tcg', bytes: 48e6 });
});

/** From figures to tables, bars and records. */
import test from 'ava';
import { CONTENDERS } from '../../bench/contenders/list.js';
import { parseBenchOptions } from '../../bench/options.js';
import { BARS, type Bar, compareWithBars, formatBars } from '../../bench/report/bars.js';
import { formatFailures, formatFigures } from '../../bench/report/figures-table.js';
import { figureRecords } from '../../bench/report/json.js';
import { Results, rowsOf } from '../../bench/results.js';
import { WORK } from '../../bench/work/list.js';

const ROWS = [{ work: 'up-1', key: 'rate', title: 'up', unit: 'MB/s' }];
const COLUMNS = ['a', 'b', 'c', 'd'].map((id) => ({ id, title: id.toUpperCase() }));

function someResults(): Results {
  const results = new Results();
  for (const rate of [100, 300, 200]) results.add('up-1', 'a', { rate });
  results.add('up-1', 'b', { rate: 'it broke' });
  return results;
}

test('a row has the medians, and below them the smallest and the largest', (t) => {
  const text = formatFigures(ROWS, COLUMNS, new Set(['c']), someResults());
  const [, , medians = '', ranges = ''] = text.split('\n');
  t.regex(medians, /^up, MB\/s +200 +fails +missing +–$/);
  t.regex(ranges, /^ +100–300$/);
});

test('a contender that failed in some rounds only has its figures, and a mark', (t) => {
  const results = someResults();
  results.add('up-1', 'a', { rate: 'it broke late' });
  t.regex(formatFigures(ROWS, COLUMNS, new Set(), results), /200 !/);
  t.deepEqual(formatFailures(ROWS, COLUMNS, results), ['A, up-1: it broke late', 'B, up-1: it broke']);
});

test('what the machine does not allow is no failure', (t) => {
  const results = new Results();
  results.add('up-1', 'a', { rate: 'not tried: needs more' });
  t.regex(formatFigures(ROWS, COLUMNS, new Set(), results), /not tried/);
});

test('rows to which nothing applies are left out', (t) => {
  t.false(formatFigures(ROWS, COLUMNS, new Set(), new Results()).includes('MB/s'));
});

test('records have every round', (t) => {
  t.deepEqual(figureRecords(ROWS, ['a', 'b', 'c'], someResults()), [
    { ...ROWS[0], contender: 'a', median: 200, min: 100, max: 300, rounds: [100, 300, 200] },
    { ...ROWS[0], contender: 'b', median: null, min: null, max: null, rounds: [], failure: 'it broke' },
  ] as never);
});

const BAR: Bar = { title: 'up', work: 'up-1', key: 'rate', of: 'a', beside: 'd', bound: 'least', bar: 2, aim: 3 };

test('a bar is met by the ratio of medians, at least or at most', (t) => {
  const results = someResults();
  results.add('up-1', 'd', { rate: 100 });
  const most = { ...BAR, bound: 'most', bar: 1.9 } as const;
  const compared = compareWithBars(results, [BAR, most, { ...BAR, bar: 2.1 }]);
  t.deepEqual(
    compared.map(({ ratio, isMet }) => [ratio, isMet]),
    [
      [2, true],
      [2, false],
      [2, false],
    ],
  );
  const text = formatBars(compared);
  t.regex(text, /up +a \/ d +2\.00 +≥ 2 +≥ 3 +met/);
  t.regex(text, /≤ 1\.9 +≤ 3 +NOT MET/);
});

test('a bar without both figures is neither met nor shown', (t) => {
  const compared = compareWithBars(someResults(), [BAR]);
  t.is(compared[0]?.isMet, undefined);
  t.is(formatBars(compared), '');
});

test('every bar is about a figure that is measured, of contenders that there are', (t) => {
  const rows = rowsOf(WORK, parseBenchOptions([]).amounts);
  const ids = CONTENDERS.map(({ id }) => id);
  for (const bar of BARS) {
    t.true(
      rows.some(({ work, key }) => work === bar.work && key === bar.key),
      bar.title,
    );
    t.true(ids.includes(bar.of) && ids.includes(bar.beside), bar.title);
  }
});

test('every row has a place of its own', (t) => {
  const places = rowsOf(WORK, parseBenchOptions([]).amounts).map(({ work, key }) => `${work} ${key}`);
  t.is(new Set(places).size, places.length);
});

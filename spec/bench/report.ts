/** From figures to tables, bars and records. */
import test from 'ava';
import { CONTENDERS } from '../../bench/contenders/list.js';
import { parseBenchOptions } from '../../bench/options.js';
import { BARS, type Bar, compareWithBars, formatBars } from '../../bench/report/bars.js';
import { formatFailures, formatFigures } from '../../bench/report/figures-table.js';
import { formatFigure } from '../../bench/report/format-figure.js';
import { Results, rowsOf } from '../../bench/results.js';
import { SIDE_TABLES } from '../../bench/side-tables.js';
import { formatTable, summarize } from '../../bench/table.js';
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

test('what the machine does not allow is no failure, and rows to which nothing applies are left out', (t) => {
  const results = new Results();
  t.false(formatFigures(ROWS, COLUMNS, new Set(), results).includes('MB/s'));
  results.add('up-1', 'a', { rate: 'not tried: needs more' });
  t.regex(formatFigures(ROWS, COLUMNS, new Set(), results), /not tried/);
});

const BAR: Bar = { title: 'up', work: 'up-1', key: 'rate', of: 'a', beside: 'd', bound: 'least', bar: 2 };

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
  t.regex(text, /up +a \/ d +2\.00 +≥ 2 +met/);
  t.regex(text, /≤ 1\.9 +MISSED/);
});

test('a bar without both figures is neither met nor shown, and one beside nothing is about the figure itself', (t) => {
  const compared = compareWithBars(someResults(), [BAR]);
  t.is(compared[0]?.isMet, undefined);
  t.is(formatBars(compared), '');
  const alone: Bar = { title: 'up', work: 'up-1', key: 'rate', of: 'a', bound: 'least', bar: 201 };
  t.regex(formatBars(compareWithBars(someResults(), [alone])), /^up +a +200 +≥ 201 +MISSED$/m);
});

test('every bar is about a figure that is measured, of contenders that there are', (t) => {
  const works = [...WORK, ...SIDE_TABLES.map(({ work }) => work)];
  const rows = rowsOf(works, parseBenchOptions([]).amounts);
  for (const bar of BARS) {
    const columns = (SIDE_TABLES.find(({ work }) => work.id === bar.work)?.columns ?? CONTENDERS).map(({ id }) => id);
    t.true(
      rows.some(({ work, key }) => work === bar.work && key === bar.key),
      bar.title,
    );
    t.true(
      [bar.of, bar.beside ?? bar.of].every((id) => columns.includes(id)),
      bar.title,
    );
  }
});

test('every row has a place of its own', (t) => {
  const places = rowsOf(WORK, parseBenchOptions([]).amounts).map(({ work, key }) => `${work} ${key}`);
  t.is(new Set(places).size, places.length);
});

test('figures have three digits, or four', (t) => {
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
  ] as const) {
    t.is(formatFigure(figure), text, `${figure}`);
  }
});

test('the median is the one in the middle, and of an even number the mean of two', (t) => {
  t.deepEqual(summarize([5, 1, 30]), { median: 5, min: 1, max: 30 });
  t.deepEqual(summarize([4, 1, 2, 100]), { median: 3, min: 1, max: 100 });
  t.is(summarize([]).median, Number.NaN);
});

test('columns are as wide as their widest cell, and lines end without spaces', (t) => {
  t.is(formatTable([['', 'a'], ['longer', '1'], ['x']]), '        a\n------  -\nlonger  1\nx');
});

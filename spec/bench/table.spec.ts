/** Medians and columns. */
import test from 'ava';
import { formatTable, summarize } from '../../bench/table.js';

test('the median is the one in the middle, and of an even number the mean of two', (t) => {
  t.deepEqual(summarize([5, 1, 30]), { median: 5, min: 1, max: 30 });
  t.deepEqual(summarize([4, 1, 2, 100]), { median: 3, min: 1, max: 100 });
  t.deepEqual(summarize([7]), { median: 7, min: 7, max: 7 });
});

test('without figures there is no median', (t) => {
  t.is(summarize([]).median, Number.NaN);
});

test('columns are as wide as their widest cell, and lines end without spaces', (t) => {
  t.is(formatTable([['', 'a'], ['longer', '1'], ['x']]), '        a\n------  -\nlonger  1\nx');
});

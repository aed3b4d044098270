/** Points and plots, and the line that delays. */
import test from 'ava';
import { LineSchedule } from '../../bench/axes/delay-line.js';
import { meanRate, rateOf, secondsToReach } from '../../bench/axes/ramp.js';
import { formatPlot } from '../../bench/axes/run-axes.js';
import { SeriesTable } from '../../bench/axes/series-table.js';

/** 1 MB/s for a second, then 10 MB/s for another; a sample each 100 ms. */
const RAMP = Array.from({ length: 21 }, (_, index) => ({
  atMs: 100 * index,
  bytes: 1000 * (index <= 10 ? 100 * index : 1000 + 1000 * (index - 10)),
}));

test('the mean is over all of the time, the rate over its second half', (t) => {
  t.is(meanRate(RAMP), 5.5);
  t.is(rateOf(RAMP), 10);
  t.is(meanRate([]), 0);
});

test('a rate is reached when it holds for half a second', (t) => {
  t.is(secondsToReach(RAMP, 1), 0);
  t.is(secondsToReach(RAMP, 10), 1);
  t.is(secondsToReach(RAMP, 11), undefined);
  t.is(secondsToReach(RAMP.slice(0, 14), 10), undefined);
});

test('a line carries one piece after the other, each later by the delay', (t) => {
  const line = new LineSchedule({ delayMs: 50, bytesPerMs: 100 });
  t.is(line.arrivalOf(1000, 0), 60);
  t.is(line.arrivalOf(1000, 5), 70);
  t.is(line.queueMs(5), 15);
  t.is(line.queueMs(30), 0);
  t.is(line.arrivalOf(1000, 100), 160);
});

test('a line without a limit only delays', (t) => {
  const line = new LineSchedule({ delayMs: 5, bytesPerMs: Infinity });
  t.is(line.arrivalOf(1e9, 1), 6);
  t.is(line.queueMs(1), 0);
});

test('a line of a plot goes through the medians, in the order of the axis', (t) => {
  const table = new SeriesTable();
  for (const y of [5, 1, 3]) table.add('a', 10, y);
  table.add('a', 1, 2);
  table.add('b', 10, 7);
  const series = [
    {
      name: 'a',
      points: [
        { x: 1, y: 2 },
        { x: 10, y: 3 },
      ],
    },
    { name: 'b', points: [{ x: 10, y: 7 }] },
  ];
  t.deepEqual(table.series(), series);
  const plot = table.plot({
    name: 'p',
    title: 'T',
    x: { title: 'n', scale: 'log' },
    y: { title: 's', scale: 'linear' },
  });
  t.deepEqual(plot.series, series);
  t.regex(formatPlot(plot), /^T, s, by n +1 +10\n[- ]+\na +2\.00 +3\.00\nb +– +7\.00$/);
});

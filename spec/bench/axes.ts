/** Points and plots, and the line that delays. */
import test from 'ava';
import { countsOfStreams } from '../../bench/axes/counts-of-streams.js';
import { LineSchedule } from '../../bench/axes/delay-line.js';
import { drawPlots } from '../../bench/axes/draw-plots.js';
import { rateAtEnd, secondsToReach } from '../../bench/axes/ramp.js';
import { formatPlot } from '../../bench/axes/run-axes.js';
import { SeriesTable } from '../../bench/axes/series-table.js';

/** 1 MB/s for a second, then 10 MB/s for another; a sample each 100 ms. */
const RAMP = Array.from({ length: 21 }, (_, index) => ({
  atMs: 100 * index,
  bytes: 1000 * (index <= 10 ? 100 * index : 1000 + 1000 * (index - 10)),
}));

test('the rate is that of the end, and of the second half at most', (t) => {
  t.is(rateAtEnd(RAMP, 500), 10);
  t.is(rateAtEnd(RAMP, 5000), 10);
  t.is(rateAtEnd(RAMP.slice(0, 12), 200), 5.5);
  t.is(rateAtEnd([], 500), 0);
});

test('idle streams are as many as descriptors allow', (t) => {
  t.deepEqual(countsOfStreams(1, 20_000), [1, 10, 100, 1000, 10_000]);
  t.deepEqual(countsOfStreams(2, 20_000), [1, 10, 100, 1000, 9000]);
  t.deepEqual(countsOfStreams(0, 1024), [1, 10, 100]);
  t.deepEqual(countsOfStreams(1, 1200), [1, 10, 100, 1000]);
  t.deepEqual(countsOfStreams(Infinity, 20_000), [1, 10, 100]);
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

test('a line of a plot goes through the medians, in the order of the axis', (t) => {
  const table = new SeriesTable();
  for (const y of [5, 1, 3]) table.add('a', 10, y);
  table.add('a', 1, 2);
  table.add('b', 10, 7);
  const plot = table.plot({ name: 'p', title: 'T', x: { title: 'n', scale: 'log' }, y: { title: 's' } });
  t.deepEqual(
    plot.series.map(({ name, points }) => [name, ...points.map(({ x, y }) => [x, y])]),
    [
      ['a', [1, 2], [10, 3]],
      ['b', [10, 7]],
    ],
  );
  t.regex(formatPlot(plot), /^T, s, by n +1 +10\n[- ]+\na +2\.00 +3\.00\nb +– +7\.00$/);
  const svg = drawPlots([plot, plot]);
  t.is([...svg.matchAll(/>T<\/text>/g)].length, 2);
  for (const text of ['n', 's', 'a', 'b']) t.true(svg.includes(`>${text}</text>`), text);
  t.is([...svg.matchAll(/<circle /g)].length, 6);
});

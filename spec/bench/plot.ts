/** Points and plots, and the line with latency. */
import test from 'ava';
import { countsOfStreams } from '../../tools/bench/axes/counts-of-streams.js';
import { LineSchedule } from '../../tools/bench/axes/delay-line.js';
import { drawPlots } from '../../tools/bench/axes/draw-plots.js';
import { rateAtEnd, secondsToReach } from '../../tools/bench/axes/ramp.js';
import { formatPlot } from '../../tools/bench/axes/run-axes.js';
import { SeriesTable } from '../../tools/bench/axes/series-table.js';
import { formatLineCharts } from '../../tools/bench/plot/line-chart.js';
import { formatPanels, type Panel } from '../../tools/bench/plot/panels.js';
import { scaleFor } from '../../tools/bench/plot/scale.js';

/** 1 MB/s for a second, then 10 MB/s for another; a sample each 100 ms. */
const RAMP = Array.from({ length: 21 }, (_, index) => ({
  atMs: 100 * index,
  bytes: 1000 * (index <= 10 ? 100 * index : 1000 + 1000 * (index - 10)),
}));

test('the rate is that of the end, within the second half; a rate is reached when it holds for half a second', (t) => {
  t.deepEqual([rateAtEnd(RAMP, 500), rateAtEnd(RAMP, 5000), rateAtEnd(RAMP.slice(0, 12), 200)], [10, 10, 5.5]);
  t.is(rateAtEnd([], 500), 0);
  const seconds = [1, 10, 11].map((rate) => secondsToReach(RAMP, rate));
  t.deepEqual(seconds, [0, 1, undefined]);
  t.is(secondsToReach(RAMP.slice(0, 14), 10), undefined);
});

test('the number of idle streams is limited by descriptors', (t) => {
  for (const [perStream, limit, ...counts] of [
    [1, 20_000, 1, 10, 100, 1000, 10_000],
    [2, 20_000, 1, 10, 100, 1000, 9000],
    [0, 1024, 1, 10, 100],
    [1, 1200, 1, 10, 100, 1000],
    [Infinity, 20_000, 1, 10, 100],
  ] as const)
    t.deepEqual(countsOfStreams(perStream, limit), counts);
});

test('a line carries one piece after the other, each later by the delay', (t) => {
  const line = new LineSchedule({ delayMs: 50, bytesPerMs: 100 });
  t.deepEqual([line.arrivalOf(1000, 0), line.arrivalOf(1000, 5)], [60, 70]);
  t.deepEqual([line.queueMs(5), line.queueMs(30)], [15, 0]);
  t.is(line.arrivalOf(1000, 100), 160);
});

test('a line of a plot goes through the medians, in the order of the axis', (t) => {
  const table = new SeriesTable();
  for (const y of [5, 1, 3]) table.add('a', 10, y);
  table.add('a', 1, 2);
  table.add('b', 10, 7);
  const plot = table.plot({ name: 'p', title: 'T', x: { title: 'n', scale: 'log' }, y: { title: 's' } });
  t.regex(formatPlot(plot), /^T, s, by n +1 +10\n[- ]+\na +2\.00 +3\.00\nb +– +7\.00$/);
  const svg = drawPlots([plot, plot]);
  t.is([...svg.matchAll(/>T<\/text>/g)].length, 2);
  for (const text of ['n', 's', 'a', 'b']) t.true(svg.includes(`>${text}</text>`), text);
  t.is([...svg.matchAll(/<circle /g)].length, 6);
});

test('a linear axis begins at 0, a logarithmic one has powers of ten and no place for 0', (t) => {
  for (const [kind, values, expected, places] of [
    ['linear', [3, 171, Number.NaN], [0, 50, 100, 150, 200], { 0: 0, 50: 0.25, 200: 1 }],
    ['linear', [-0.1, 0.52], [-0.2, 0, 0.2, 0.4, 0.6], {}],
    ['log', [0, 0.02, 7, 300], [0.01, 0.1, 1, 10, 100, 1000], { 0.01: 0, 1: 0.4, 1000: 1, 0: Number.NaN }],
  ] as const) {
    const { ticks, place } = scaleFor(kind, values);
    t.deepEqual(ticks, [...expected]);
    for (const [value, at] of Object.entries(places)) t.is(place(Number(value)), at, `${kind} ${value}`);
  }
});

test('an axis for one value, or for none, has a length', (t) => {
  for (const kind of ['linear', 'log', 'log-and-zero'] as const) {
    for (const values of [[], [5], [0], [Number.NaN]]) {
      const { ticks, place } = scaleFor(kind, values);
      t.true(ticks.length > 1, kind);
      t.deepEqual([place(ticks[0] ?? 0), place(ticks.at(-1) ?? 0)], [0, 1], kind);
    }
  }
});

test('a chart has its titles, its legend, its marks, and lines from value to value with gaps', (t) => {
  const chart = {
    title: 'Memory <of> "two" & more',
    x: { title: 'time, s' },
    y: { title: 'memory, MB' },
    series: [
      { name: 'host', points: [0, 100, Number.NaN, 50].map((y, index) => ({ x: [0, 10, 12, 20][index] ?? 0, y })) },
      { name: 'guest', points: [] },
    ],
    marks: [{ x: 10, text: 'killed' }],
  };
  const svg = formatLineCharts([chart]);
  for (const text of ['Memory &lt;of&gt; &quot;two&quot; &amp; more', 'time, s', 'memory, MB', 'host', 'guest'])
    t.true(svg.includes(`>${text}</text>`), text);
  t.true(svg.includes('<title>killed</title>'));
  // 20 on the x axis is at its end, 100 on the y axis at its top.
  t.true(svg.includes('<path d="M80 310L510 60M940 185"'), svg);
  t.false(svg.includes('NaN'));
  const two = formatLineCharts([chart, { ...chart, y: { ...chart.y, scale: 'log' } }]);
  t.is([...two.matchAll(/<g transform/g)].length, 2);
});

test('a panel writes its values with their unit', (t) => {
  const labels = (unit: Panel['unit'], series: Panel['series']): string[] => {
    const panels = [{ title: 'one', unit, isStacked: false, series }];
    const svg = formatPanels({ title: 'A <board>', subtitle: 'of "tests"', seconds: 240, marks: [], panels });
    return [...svg.matchAll(/class="faint" text-anchor="end">([^<]*)</g)].map(([, label = '']) => label);
  };
  const upTo = (most: number) => [{ name: 'a', points: [0, most].map((y, index) => ({ x: index * 60, y })) }];
  for (const [unit, most, label] of [
    ['bytes', 80e6, '80 MB'],
    ['Bps', 4_000, '4 kB/s'],
    ['s', 0.004, '4 ms'],
    ['percentunit', 0.8, '80 %'],
    ['cps', 8, '8 /s'],
  ] as const)
    t.true(labels(unit, upTo(most)).includes(label), `${unit}: ${labels(unit, upTo(most)).join(', ')}`);
  for (const series of [[], upTo(0)]) t.is(labels('bytes', series)[0], '0 B');
});

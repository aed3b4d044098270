/** The charts of the measurements. */
import test from 'ava';
import { formatLineCharts } from '../../bench/plot/line-chart.js';
import { formatPanels, type Panel } from '../../bench/plot/panels.js';
import { scaleFor } from '../../bench/plot/scale.js';

test('a linear axis begins at 0 and has round ticks that span the values', (t) => {
  const { ticks, place } = scaleFor('linear', [3, 171, Number.NaN]);
  t.deepEqual(ticks, [0, 50, 100, 150, 200]);
  t.deepEqual([0, 50, 200].map(place), [0, 0.25, 1]);
  t.deepEqual(scaleFor('linear', [-0.1, 0.52]).ticks, [-0.2, 0, 0.2, 0.4, 0.6]);
});

test('a logarithmic axis has a tick for each power of ten, and no place for 0', (t) => {
  const { ticks, place } = scaleFor('log', [0, 0.02, 7, 300]);
  t.deepEqual(ticks, [0.01, 0.1, 1, 10, 100, 1000]);
  t.deepEqual([0.01, 1, 1000].map(place), [0, 0.4, 1]);
  t.is(place(0), Number.NaN);
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

test('a chart has its titles, its legend, its marks, and lines from value to value with gaps', (t) => {
  const svg = formatLineCharts([chart]);
  for (const text of ['Memory &lt;of&gt; &quot;two&quot; &amp; more', 'time, s', 'memory, MB', 'host', 'guest']) {
    t.true(svg.includes(`>${text}</text>`), text);
  }
  t.true(svg.includes('<title>killed</title>'));
  // 20 on the x axis is at its end, 100 on the y axis at its top.
  t.true(svg.includes('<path d="M80 310L510 60M940 185"'), svg);
  t.false(svg.includes('NaN'));
  const two = formatLineCharts([chart, { ...chart, y: { ...chart.y, scale: 'log' } }]);
  t.is([...two.matchAll(/<g transform/g)].length, 2);
});

// Boards of panels

const points = (...values: (number | null)[]) =>
  values.flatMap((y, index) => (y === null ? [] : [{ x: index * 60, y }]));

const draw = (panel: Partial<Panel>): string =>
  formatPanels({
    ...{ title: 'A <board>', subtitle: 'of "tests"', seconds: 240 },
    marks: [{ x: 120, text: 'a & b' }],
    panels: [{ title: 'one', unit: 'none', isStacked: false, series: [], ...panel }],
  });

const tickLabels = (svg: string): string[] =>
  [...svg.matchAll(/class="faint" text-anchor="end">([^<]*)</g)].map(([, label = '']) => label);

test('a panel writes its values with their unit', (t) => {
  for (const [unit, most, last] of [
    ['bytes', 80e6, '80 MB'],
    ['Bps', 4_000, '4 kB/s'],
    ['s', 0.004, '4 ms'],
    ['percentunit', 0.8, '80 %'],
    ['cps', 8, '8 /s'],
  ] as const) {
    const labels = tickLabels(draw({ unit, series: [{ name: 'a', points: points(0, most) }] }));
    t.true(labels.includes(last), `${unit}: ${labels.join(', ')}`);
  }
  for (const series of [[], [{ name: 'a', points: points(0, 0) }]])
    t.is(tickLabels(draw({ unit: 'bytes', series }))[0], '0 B');
});

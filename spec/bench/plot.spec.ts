/** The charts of the measurements. */
import test from 'ava';
import { formatLineCharts } from '../../bench/plot/line-chart.js';
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

test('a logarithmic axis can have a place for 0, before the powers of ten', (t) => {
  const { ticks, place } = scaleFor('log-and-zero', [0, 1, 10, 100]);
  t.deepEqual(ticks, [0, 1, 10, 100]);
  t.deepEqual(ticks.map(place), [0, 1 / 3, 2 / 3, 1]);
  t.is(place(-1), Number.NaN);
});

for (const kind of ['linear', 'log', 'log-and-zero'] as const) {
  test(`a ${kind} axis for one value, or for none, has a length`, (t) => {
    for (const values of [[], [5], [0], [Number.NaN]]) {
      const { ticks, place } = scaleFor(kind, values);
      t.true(ticks.length > 1);
      t.is(place(ticks[0] ?? 0), 0);
      t.is(place(ticks.at(-1) ?? 0), 1);
    }
  });
}

const chart = {
  title: 'Memory <of> "two" & more',
  x: { title: 'time, s' },
  y: { title: 'memory, MB' },
  series: [
    {
      name: 'host',
      points: [
        { x: 0, y: 0 },
        { x: 10, y: 100 },
        { x: 12, y: Number.NaN },
        { x: 20, y: 50 },
      ],
    },
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
});

test('charts stand below one another in one document whose elements are closed', (t) => {
  const svg = formatLineCharts([chart, { ...chart, y: { ...chart.y, scale: 'log' } }]);
  t.regex(svg, /^<svg [^>]* height="720"/);
  t.is([...svg.matchAll(/<g transform/g)].length, 2);
  for (const element of ['svg', 'g', 'text', 'title']) {
    const opened = [...svg.matchAll(new RegExp(`<${element}[ >]`, 'g'))].length;
    t.is([...svg.matchAll(new RegExp(`</${element}>`, 'g'))].length, opened, element);
  }
});

/** Writing the tables of the documents from the figures of a run. */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';
import { type BenchFindings, benchParts } from '../../tools/bench/documents/bench-parts.js';
import { replaceMarked, writeDocuments } from '../../tools/bench/documents/parts.js';
import { parseBenchOptions } from '../../tools/bench/options.js';
import { compareWithBars } from '../../tools/bench/report/bars.js';
import { Results } from '../../tools/bench/results.js';
import { parseVmOptions } from '../../tools/bench/vm/options.js';
import { reportVm } from '../../tools/bench/vm/report.js';
import { projectText, temporaryFolder } from '../helpers/files.js';

const MACHINE = { node: 'v24.1.2', cpu: 'a', cpuCount: 2, memoryBytes: 4, kernel: 'Linux 6.1', commit: null };

function findings(results: Results, machine = MACHINE): BenchFindings {
  const options = parseBenchOptions(['--rounds', '3', '--megabytes', '200']);
  return { options, results, missing: new Map([['socat', 'apt']]), bars: compareWithBars(results), machine };
}

function someResults(): Results {
  const results = new Results();
  results.add('up-1', 'vproxy', { rate: 1500, cpu: 0.5 });
  results.add('up-1', 'vproxy-tls', { rate: 600, cpu: 0.9 });
  results.add('up-1', 'yamux', { rate: 750, cpu: 2 });
  results.add('start', 'vproxy', { ms: 199.6 });
  results.add('start', 'ssh', { ms: 'it broke' });
  return results;
}

test('tables have the defaults beside the other contenders, and beside other settings', (t) => {
  const parts = benchParts(findings(someResults()));
  const contentOf = (file: string, name: string): string =>
    parts.find((part) => part.file === file && part.name === name)?.content ?? '';
  const readme = contentOf('README.md', 'figures').split('\n');
  t.deepEqual(
    [0, 1, 2, -1].map((at) => readme.at(at)),
    [
      '| | vproxy | yamux | smux | ssh -L | socat | two plain relays |',
      '| --- | --- | --- | --- | --- | --- | --- |',
      '| 1 stream, MB/s | 1500 | 750 | – | – | missing | – |',
      'Medians of 3 rounds, 2 cores, Node 24.1.2, Linux 6.1, 200 MB per transfer.',
    ],
  );
  const performance = contentOf('docs/performance.md', 'figures');
  const [others = '', settings = ''] = performance.split('vproxy with other settings:');
  t.regex(others, /^Medians of 3 rounds, 2 cores, [^]*^\| \| vproxy \| relays \| socket \| yamux \|/m);
  t.regex(others, /^\| 1 stream, MB\/s \| 1500 \| – \| – \| 750 \| – \| – \| missing \|$/m);
  t.regex(settings, /^\| \| vproxy \| full \| tls \|[^]*^\| 1 stream, MB\/s \| 1500 \| – \| 600 \|/m);
});

test('parts replace only the text between their markers; if markers are missing, nothing is written', (t) => {
  const file = join(temporaryFolder(t), 'a.md');
  const marked = (content: string) =>
    ['x', 'y'].map((name) => `${name}\n<!-- bench:begin ${name} -->\n${content}<!-- bench:end ${name} -->\n`).join('');
  writeFileSync(file, marked('old\n'));
  const write = (...names: string[]) =>
    writeDocuments(
      names.map((name) => ({ file: 'a.md', works: [], content: '$1 new\n', name })),
      dirname(file),
    );
  const message = /^a\.md: expected the markers <!-- bench:begin z --> and <!-- bench:end z --> once/;
  t.throws(() => write('x', 'z'), { message });
  t.is(readFileSync(file, 'utf8'), marked('old\n'));
  for (let round = 0; round < 2; round += 1) {
    write('x', 'y');
    t.is(readFileSync(file, 'utf8'), marked('\n$1 new\n\n'));
  }
  const [begin, end] = ['<!-- bench:begin x -->\n', '<!-- bench:end x -->\n'];
  for (const wrong of [`${begin}${end}${begin}${end}`, `${end}${begin}`, begin]) {
    t.throws(() => replaceMarked('a.md', wrong, 'x', ''), {
      message: /^a\.md: expected the markers .* once, in this order/,
    });
  }
});

/** The headings of tables, and the titles of their rows. */
const titlesOf = (text: string): string[] =>
  (text.match(/^\|.*$/gm) ?? []).map((line) => (line.startsWith('| |') ? line : (line.split(' | ')[0] ?? '')));

test('the documents have exactly the markers of all parts, with the current columns and rows between them', (t) => {
  const guest = reportVm(parseVmOptions([]), new Results(), 'tcg').documents ?? [];
  const onNode20 = benchParts(findings(new Results(), { ...MACHINE, node: 'v20.19.0' }));
  t.is(onNode20.length, 1);
  const parts = [...benchParts(findings(new Results())), ...onNode20, ...guest];
  t.is(parts.filter(({ name }) => name === 'figures').length, 2);
  for (const file of new Set(parts.map((part) => part.file))) {
    const text = projectText(file);
    const own = parts.filter((part) => part.file === file);
    const marks = [...text.matchAll(/^<!-- bench:((?:begin|end) \S+) -->$/gm)].map(([, mark]) => mark);
    t.deepEqual(marks.sort(), own.flatMap(({ name }) => [`begin ${name}`, `end ${name}`]).sort());
    for (const { name, content } of own) {
      const [, written = ''] = text.split(new RegExp(`<!-- bench:(?:begin|end) ${name} -->\n`));
      t.regex(written, /Medians.* of \d|medians of/, `${file} ${name}`);
      t.regex(written, /^\| --- .*\n\|.+/m, `${file} ${name}`);
      if (name === 'figures') t.deepEqual(titlesOf(written), titlesOf(content), file);
    }
  }
});

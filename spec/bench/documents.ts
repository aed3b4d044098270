/** The tables of the documents are written from the figures of a run. */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';
import { type BenchFindings, benchParts } from '../../bench/documents/bench-parts.js';
import { type DocumentPart, replaceMarked, writeDocuments } from '../../bench/documents/parts.js';
import { parseBenchOptions } from '../../bench/options.js';
import { compareWithBars } from '../../bench/report/bars.js';
import { Results } from '../../bench/results.js';
import { parseVmOptions } from '../../bench/vm/options.js';
import { reportVm } from '../../bench/vm/report.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';

const MACHINE = { node: 'v20.1.2', cpu: 'a', cpuCount: 2, memoryBytes: 4, kernel: 'Linux 6.1', commit: null };

function findings(results: Results): BenchFindings {
  const options = parseBenchOptions(['--rounds', '3', '--megabytes', '200']);
  return { options, results, missing: new Map([['socat', 'apt']]), bars: compareWithBars(results), machine: MACHINE };
}

function someResults(): Results {
  const results = new Results();
  results.add('up-1', 'vproxy', { rate: 1500, cpu: 0.5 });
  results.add('up-1', 'vproxy-tls', { rate: 600, cpu: 0.9 });
  results.add('up-1', 'yamux', { rate: 750, cpu: 2 });
  results.add('start', 'vproxy', { ms: 199.6 });
  results.add('start', 'ssh', { ms: 'it broke' });
  results.add('command', 'node', { ms: 50 });
  results.add('command', 'version', { ms: 100 });
  return results;
}

const partOf = (parts: readonly DocumentPart[], file: string, name: string): DocumentPart | undefined =>
  parts.find((part) => part.file === file && part.name === name);

/** What a run of everything writes, here and in a guest. */
function allParts(): DocumentPart[] {
  const guest = reportVm(parseVmOptions([]), new Results(), 'tcg').documents ?? [];
  return [...benchParts(findings(new Results())), ...guest];
}

test("the README's table has the defaults beside the neighbours, the first byte first", (t) => {
  const lines = partOf(benchParts(findings(someResults())), 'README.md', 'figures')?.content.split('\n') ?? [];
  t.is(lines[0], '| | vproxy | yamux | smux | ssh -L | socat | two plain relays |');
  t.is(lines[1], '| --- | --- | --- | --- | --- | --- | --- |');
  t.is(lines[2], '| first byte after the start of both sides, ms | 200 | – | – | fails | missing | – |');
  t.is(lines[4], '| CPU of both sides for a GB, 1 stream, s | 0.50 | 2.00 | – | – | missing | – |');
  t.is(lines[5], '| 1 stream, MB/s | 1500 | 750 | – | – | missing | – |');
  t.is(lines.at(-1), 'Medians of 3 rounds, 2 cores, Node 20.1.2, Linux 6.1, 200 MB a transfer.');
});

test('the tables of docs/performance.md begin with the rows of the README, and all rows are folded', (t) => {
  const parts = benchParts(findings(someResults()));
  const figures = partOf(parts, 'docs/performance.md', 'figures')?.content ?? '';
  const [others = '', allOthers = '', settings = '', allSettings = ''] = figures.split(/<details>|<\/details>/);
  t.regex(others, /^Medians of 3 rounds, 2 cores, [^]*^\| \| vproxy \| relays \| socket \| yamux \|/m);
  t.regex(others, /^\| 1 stream, MB\/s \| 1500 \| – \| – \| 750 \| – \| – \| missing \|$/m);
  t.regex(allOthers, /<summary>vproxy beside others: all rows[^]*^\| up, 1 stream, MB\/s \| 1500 \| – \| – \| 750 \|/m);
  t.regex(settings, /^\| \| vproxy \| full \| tls \|[^]*^\| 1 stream, MB\/s \| 1500 \| – \| 600 \|/m);
  t.regex(allSettings, /^\| up, 1 stream, MB\/s \| 1500 \| – \| 600 \|/m);
  t.regex(
    partOf(parts, 'docs/performance.md', 'command')?.content ?? '',
    /^\| a command, start to exit, ms \| 50\.0 \| 100 \| – \|$/m,
  );
});

test('parts replace what was between their marks, and nothing else; where marks are missing, nothing is written', (t) => {
  const file = join(temporaryFolder(t), 'a.md');
  const marked = (content: string) =>
    ['x', 'y'].map((name) => `${name}\n<!-- bench:begin ${name} -->\n${content}<!-- bench:end ${name} -->\n`).join('');
  writeFileSync(file, marked('old\n'));
  const write = (...names: string[]) =>
    writeDocuments(
      names.map((name) => ({ file: 'a.md', works: [], content: '$1 new\n', name })),
      dirname(file),
    );
  const message = /^a\.md: the marks <!-- bench:begin z --> and <!-- bench:end z --> should be there once/;
  t.throws(() => write('x', 'z'), { message });
  t.is(readFileSync(file, 'utf8'), marked('old\n'));
  for (let round = 0; round < 2; round += 1) {
    write('x', 'y');
    t.is(readFileSync(file, 'utf8'), marked('\n$1 new\n\n'));
  }
  const [begin, end] = ['<!-- bench:begin x -->\n', '<!-- bench:end x -->\n'];
  for (const wrong of [`${begin}${end}${begin}${end}`, `${end}${begin}`, begin]) {
    t.throws(() => replaceMarked('a.md', wrong, 'x', ''), { message: /should be there once, in this order/ });
  }
});

test('the documents have the marks of every part, and of no other, with a table between them', (t) => {
  const parts = allParts();
  for (const file of new Set(parts.map((part) => part.file))) {
    const text = readFileSync(join(PROJECT_ROOT, file), 'utf8');
    const names = parts.filter((part) => part.file === file).map(({ name }) => name);
    const marks = [...text.matchAll(/^<!-- bench:(begin|end) (\S+) -->$/gm)].map(
      ([, which, name]) => `${which} ${name}`,
    );
    t.deepEqual([...marks].sort(), names.flatMap((name) => [`begin ${name}`, `end ${name}`]).sort());
    for (const name of names) {
      const [, content = ''] = text.split(new RegExp(`<!-- bench:(?:begin|end) ${name} -->\n`));
      t.regex(content, /Medians.* of \d|medians of/, `${file} ${name}`);
      t.regex(content, /^\| --- .*\n\|.+/m, `${file} ${name}`);
    }
  }
});

test('what the documents quote is what is measured now: the same columns, and the rows that come first', (t) => {
  const parts = benchParts(findings(new Results())).filter((part) => part.name === 'figures');
  t.is(parts.length, 2);
  const titlesOf = (text: string): string[] =>
    text
      .replace(/<details>[^]*?<\/details>/g, '')
      .split('\n')
      .filter((line) => line.startsWith('|'))
      .map((line) => (line.startsWith('| |') ? line : (line.split(' | ')[0] ?? '')));
  for (const { file, name, content } of parts) {
    const [, written = ''] = readFileSync(join(PROJECT_ROOT, file), 'utf8').split(
      new RegExp(`<!-- bench:(?:begin|end) ${name} -->\n`),
    );
    t.deepEqual(titlesOf(written), titlesOf(content), file);
  }
});

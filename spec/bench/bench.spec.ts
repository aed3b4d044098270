/** The benchmark itself, with amounts that say nothing about speed. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const script = 'dist/bench/index.js';
const TINY = ['--quick', '--rounds', '2', '--megabytes', '1'];

interface Report {
  readonly node: string;
  readonly cpuCount: number;
  readonly commit: string | null;
  readonly date: string;
  readonly options: { readonly rounds: number };
  readonly figures: readonly {
    readonly work: string;
    readonly key: string;
    readonly contender: string;
    readonly median: number;
    readonly min: number;
    readonly max: number;
    readonly rounds: readonly number[];
    readonly failure?: string;
  }[];
  readonly bars: readonly { readonly title: string; readonly ratio?: number }[];
}

test.serial('it measures, prints a table, writes every figure to a file, and leaves nothing else behind', async (t) => {
  const folder = temporaryFolder(t);
  const json = join(folder, 'figures.json');
  const contenders = ['vproxy', 'relays', 'socket'];
  const args = [...TINY, '--json', json, '--contenders', contenders.join(',')];
  const only = '^(up-1|echo-1|start|rest|command|storage-call)$';
  const bench = spawnVproxy(t, [...args, '--only', only], { script, env: { TMPDIR: folder } });
  t.deepEqual(await bench.exited, { code: 0, signal: null }, bench.lines.join('\n'));
  t.regex(bench.stdout, /^ +vproxy +relays +socket$/m);
  t.regex(bench.stdout, /^up, 1 stream, MB\/s +[\d.]+/m);
  t.regex(bench.stdout, /^memory of a side at rest, MB +[\d.]+ +[\d.]+ +–$/m);
  t.regex(bench.stdout, /^up, 1 stream +vproxy \/ relays +[\d.]+ +≥ 1\.2 +(met|MISSED)$/m);
  t.regex(bench.stdout, /^vproxy --version +version \/ node +[\d.]+ +≤ 1\.5 +(met|MISSED)$/m);
  t.deepEqual(readdirSync(folder), ['figures.json']);

  const report = JSON.parse(readFileSync(json, 'utf8')) as Report;
  t.is(report.node, process.version);
  t.true(report.cpuCount > 0);
  t.is(report.options.rounds, 2);
  t.false(Number.isNaN(Date.parse(report.date)));
  for (const contender of contenders) {
    const cell = report.figures.find((figure) => figure.contender === contender && figure.work === 'up-1');
    t.is(cell?.failure, undefined);
    t.is(cell?.rounds.length, 2);
    t.true(cell !== undefined && cell.min > 0 && cell.min <= cell.median && cell.median <= cell.max);
  }
  const callers = report.figures.filter(({ work }) => work === 'storage-call').map(({ contender }) => contender);
  t.deepEqual(callers, ['vproxy-storage', 'node-script', 'python-script']);
  t.true(report.bars.some(({ ratio }) => typeof ratio === 'number'));
});

test.serial('the axes give the points of their plots, and a drawing for each axis', async (t) => {
  const folder = temporaryFolder(t);
  const json = join(folder, 'figures.json');
  const args = [
    '--axis',
    '--quick',
    '--rounds',
    '1',
    '--megabytes',
    '1',
    '--contenders',
    'relays',
    '--only',
    'messages',
  ];
  const bench = spawnVproxy(t, [...args, '--json', json, '--plots', join(folder, 'plots')], {
    script,
    env: { TMPDIR: folder },
  });
  t.deepEqual(await bench.exited, { code: 0, signal: null }, bench.lines.join('\n'));
  t.deepEqual(readdirSync(folder).sort(), ['figures.json', 'plots']);
  t.deepEqual(readdirSync(join(folder, 'plots')), ['messages.svg']);
  const svg = readFileSync(join(folder, 'plots/messages.svg'), 'utf8');
  t.regex(svg, /^<svg [^]*>Echo, median<[^]*>bytes of a message<[^]*>µs<[^]*>relays<[^]*<\/svg>\n$/);
  t.is([...svg.matchAll(/<circle /g)].length, 18);
  t.true(bench.lines.some((line) => line.endsWith(join(folder, 'plots/messages.svg'))));
  const { plots } = JSON.parse(readFileSync(json, 'utf8')) as {
    plots: { name: string; series: { points: unknown[] }[] }[];
  };
  t.deepEqual(
    plots.map(({ name, series }) => [name, series[0]?.points.length]),
    [
      ['messages-echo', 9],
      ['messages-rate', 9],
    ],
  );
});

test.serial('interrupted, it ends its processes and removes its folder', async (t) => {
  const folder = temporaryFolder(t);
  const args = ['--contenders', 'vproxy,relays', '--json', join(folder, 'figures.json')];
  const bench = spawnVproxy(t, args, { script, env: { TMPDIR: folder } });
  await eventually(() => bench.lines.some((line) => line.includes('round 1')), { timeoutMs: 30_000 });
  bench.kill('SIGINT');
  t.deepEqual(await bench.exited, { code: 130, signal: null });
  t.deepEqual(readdirSync(folder), []);
  const marks = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => readCommandLine(pid));
  t.deepEqual(
    marks.filter((line) => line.includes(folder)),
    [],
  );
});

test.serial('an argument that is not valid is told in one line, with 64', async (t) => {
  const bench = spawnVproxy(t, ['--rounds', 'many'], { script });
  t.deepEqual(await bench.exited, { code: 64, signal: null });
  t.deepEqual([...bench.lines], ['bench: --rounds "many" should be a number from 1 to 999999']);
});

test.serial('--help says what there is', async (t) => {
  const bench = spawnVproxy(t, ['--help'], { script });
  t.deepEqual(await bench.exited, { code: 0, signal: null });
  t.regex(bench.stdout, /--quick[^]*--json/);
});

function readCommandLine(pid: string): string[] {
  try {
    return [readFileSync(`/proc/${pid}/cmdline`, 'utf8')];
  } catch {
    return [];
  }
}

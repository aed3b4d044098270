/** The benchmark itself, with amounts that say nothing about speed. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { HELP } from '../../bench/options.js';
import { SOAK_HELP } from '../../bench/soak/options.js';
import { VM_HELP } from '../../bench/vm/options.js';
import { SERIAL_VARIANTS, serialRows } from '../../bench/vm/serial-line.js';
import { serveLoad } from '../../bench/vm/serve.js';
import { measureInGuest, VM_WORK } from '../../bench/vm/work.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const script = 'dist/bench/index.js';
const TINY = ['--quick', '--rounds', '1', '--megabytes', '1'];

/** What of the file of figures is looked at. */
interface Report {
  readonly node: string;
  readonly cpuCount: number;
  readonly date: string;
  readonly options: { readonly rounds: number };
  readonly figures: readonly {
    readonly work: string;
    readonly key: string;
    readonly contender: string;
    readonly median: number;
    readonly rounds: readonly number[];
    readonly failure?: string;
  }[];
  readonly bars: readonly { readonly title: string; readonly ratio?: number }[];
  readonly plots?: readonly { readonly name: string; readonly series: readonly { readonly points: unknown[] }[] }[];
}

const readReport = (path: string): Report => JSON.parse(readFileSync(path, 'utf8')) as Report;

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

  const report = readReport(json);
  t.is(report.node, process.version);
  t.true(report.cpuCount > 0);
  t.is(report.options.rounds, 1);
  t.false(Number.isNaN(Date.parse(report.date)));
  for (const contender of contenders) {
    const cell = report.figures.find((figure) => figure.contender === contender && figure.work === 'up-1');
    t.is(cell?.failure, undefined);
    t.is(cell?.rounds.length, 1);
    t.true((cell?.median ?? 0) > 0);
  }
  const callers = report.figures.filter(({ work }) => work === 'storage-call').map(({ contender }) => contender);
  t.deepEqual(callers, ['vproxy-storage', 'node-script', 'python-script']);
  t.true(report.bars.some(({ ratio }) => typeof ratio === 'number'));
});

test.serial('the axes give the points of their plots, and a drawing for each axis', async (t) => {
  const folder = temporaryFolder(t);
  const json = join(folder, 'figures.json');
  const args = ['--axis', ...TINY, '--contenders', 'relays', '--only', 'messages'];
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
  const { plots = [] } = readReport(json);
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
  const left = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && commandLineOf(name).includes(folder));
  t.deepEqual(left, []);
});

test.serial('a line is measured without a guest, and a keystroke beside bulk waits for it', async (t) => {
  const folder = temporaryFolder(t);
  const json = join(folder, 'figures.json');
  const args = ['--rounds', '1', '--only', '^serial-115200$', '--json', json];
  const bench = spawnVproxy(t, args, { script: 'dist/bench/vm.js', env: { TMPDIR: folder } });
  t.deepEqual(await bench.exited, { code: 0, signal: null }, bench.lines.join('\n'));
  t.regex(bench.stdout, /simulated serial line, outside the guest/);
  t.deepEqual(readdirSync(folder), ['figures.json']);
  const { figures } = readReport(json);
  for (const { id } of SERIAL_VARIANTS) {
    const own = figures.filter(({ contender }) => contender === id);
    t.deepEqual(
      own.map(({ key }) => key),
      serialRows(115_200).map(({ key }) => key),
    );
    const median = (key: string): number => own.find((figure) => figure.key === key)?.median ?? Number.NaN;
    t.true(median('alone') > 0 && median('p50') > median('alone') && median('most') >= median('p50'));
    // Frames and the line's ticks take some of it.
    t.true(median('bulk') > 50 && median('bulk') <= 105, `${median('bulk')} %`);
  }
});

test.serial('the near end measures each piece of work on a port', async (t) => {
  const server = await localServer(t, serveLoad);
  const amounts = { bytes: 1e6, echoes: 50, besideMs: 300 };
  for (const work of VM_WORK) {
    const outcomes = await measureInGuest(work, `${server.port}`, amounts);
    t.deepEqual(Object.keys(outcomes).sort(), work.rows.map(({ key }) => key).sort());
    for (const [key, figure] of Object.entries(outcomes)) t.true(Number(figure) > 0, `${work.id} ${key}: ${figure}`);
  }
});

for (const [name, file, help] of [
  ['bench', script, HELP],
  ['bench:vm', 'dist/bench/vm.js', VM_HELP],
  ['soak', 'dist/bench/soak/index.js', SOAK_HELP],
] as const) {
  test.serial(
    `${name}: --help says what there is, and an argument that is not valid is told in one line, with 64`,
    async (t) => {
      const shown = spawnVproxy(t, ['--help'], { script: file });
      t.deepEqual(await shown.exited, { code: 0, signal: null });
      t.is(shown.stdout, help);
      const wrong = spawnVproxy(t, ['--x'], { script: file });
      t.deepEqual(await wrong.exited, { code: 64, signal: null });
      t.is(wrong.lines.length, 1);
      t.true(wrong.lines[0]?.startsWith(`${name}: `), wrong.lines[0]);
    },
  );
}

function commandLineOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

/** The benchmark itself, with amounts too small for meaningful figures. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { HELP } from '../../tools/bench/options.js';
import { SOAK_HELP } from '../../tools/bench/soak/options.js';
import { VM_HELP } from '../../tools/bench/vm/options.js';
import { SERIAL_VARIANTS, serialRows } from '../../tools/bench/vm/serial-line.js';
import { serveLoad } from '../../tools/bench/vm/serve.js';
import { measureInGuest, VM_WORK } from '../../tools/bench/vm/work.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer } from '../helpers/local-server.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const script = 'dist/tools/bench/index.js';
const TINY = ['--quick', '--rounds', '1', '--megabytes', '1'];

interface Figure {
  readonly work: string;
  readonly key: string;
  readonly contender: string;
  readonly median: number;
  readonly rounds: readonly number[];
  readonly failure?: string;
}

interface Report {
  readonly node: string;
  readonly cpuCount: number;
  readonly date: string;
  readonly options: { readonly rounds: number };
  readonly figures: readonly Figure[];
  readonly bars: readonly { readonly title: string; readonly ratio?: number }[];
  readonly plots?: readonly { readonly name: string; readonly series: readonly { readonly points: unknown[] }[] }[];
}

/** Runs a benchmark to its end in its own folder, where it leaves only its report. */
async function runBench(t: ExecutionContext, args: readonly string[], file = script) {
  const folder = temporaryFolder(t);
  const json = join(folder, 'figures.json');
  const bench = spawnVproxy(t, [...args, '--json', json], { script: file, cwd: folder, env: { TMPDIR: folder } });
  t.deepEqual(await bench.exited, { code: 0, signal: null }, bench.lines.join('\n'));
  const left = readdirSync(folder).filter((name) => name !== 'figures.json');
  const report = JSON.parse(readFileSync(json, 'utf8')) as Report;
  return { folder, left, report, lines: bench.lines, stdout: bench.stdout };
}

test.serial('it measures, prints a table, writes every figure to a file, and leaves nothing else behind', async (t) => {
  const contenders = ['vproxy', 'relays', 'socket'];
  const only = '^(up-1|echo-1|start|rest|command|storage-call)$';
  const { stdout, report, left } = await runBench(t, [...TINY, '--contenders', contenders.join(','), '--only', only]);
  for (const line of [
    /^ +vproxy +relays +socket$/m,
    /^up, 1 stream, MB\/s +[\d.]+/m,
    /^memory at rest, per side, MB +[\d.]+ +[\d.]+ +–$/m,
    /^up, 1 stream +vproxy \/ relays +[\d.]+ +≥ 1\.2 +(met|MISSED)$/m,
    /^vproxy --version +version \/ node +[\d.]+ +≤ 1\.2 +(met|MISSED)$/m,
  ])
    t.regex(stdout, line);
  t.deepEqual(left, []);
  t.like(report, { node: process.version, options: { rounds: 1 } });
  t.true(report.cpuCount > 0 && !Number.isNaN(Date.parse(report.date)));
  const figuresOf = (id: string): readonly Figure[] => report.figures.filter(({ work }) => work === id);
  for (const contender of contenders) {
    const cell = figuresOf('up-1').find((figure) => figure.contender === contender);
    t.like(cell, { failure: undefined, rounds: { length: 1 } });
    t.true((cell?.median ?? 0) > 0);
  }
  const callers = figuresOf('storage-call').map(({ contender }) => contender);
  t.deepEqual(callers, ['vproxy-storage', 'node-script', 'python-script']);
  t.true(report.bars.some(({ ratio }) => typeof ratio === 'number'));
});

test.serial('the axes give the points of their plots, and a drawing for each axis', async (t) => {
  const args = ['--axis', ...TINY, '--contenders', 'relays', '--only', 'messages', '--plots', 'plots'];
  const { folder, left, lines, report } = await runBench(t, args);
  t.deepEqual([left, readdirSync(join(folder, 'plots'))], [['plots'], ['messages.svg']]);
  const svg = readFileSync(join(folder, 'plots/messages.svg'), 'utf8');
  t.regex(svg, /^<svg [^]*Echo, median<[^]*>message size, bytes<[^]*>µs<[^]*>relays<[^]*<\/svg>\n$/);
  t.is([...svg.matchAll(/<circle /g)].length, 18);
  t.true(lines.some((line) => line.endsWith('plots/messages.svg')));
  const plots = report.plots?.map(({ name, series }) => `${name} ${series[0]?.points.length}`);
  t.deepEqual(plots, ['messages-echo 9', 'messages-rate 9']);
});

test.serial('interrupted, it ends its processes and removes its folder', async (t) => {
  const folder = temporaryFolder(t);
  const args = ['--contenders', 'vproxy,relays', '--json', join(folder, 'figures.json')];
  const bench = spawnVproxy(t, args, { script, env: { TMPDIR: folder } });
  await bench.waitForLine(/round 1/);
  bench.kill('SIGINT');
  t.deepEqual(await bench.exited, { code: 130, signal: null });
  t.deepEqual(readdirSync(folder), []);
  // The processes of the load end by themselves once they miss their parent.
  const left = () => readdirSync('/proc').filter((name) => /^\d+$/.test(name) && commandLineOf(name).includes(folder));
  await eventually(() => left().length === 0, { what: 'the end of its processes' });
});

test.serial('a line is measured without a guest, and a keystroke beside bulk waits for it', async (t) => {
  const { stdout, report, left } = await runBench(
    t,
    ['--rounds', '1', '--only', '^serial-115200$'],
    'dist/tools/bench/vm.js',
  );
  t.regex(stdout, /simulated serial line, outside the guest/);
  t.deepEqual(left, []);
  for (const { id } of SERIAL_VARIANTS) {
    const own = new Map(
      report.figures.filter(({ contender }) => contender === id).map(({ key, median }) => [key, median]),
    );
    const keys = serialRows(115_200).map(({ key }) => key);
    t.deepEqual([...own.keys()], keys);
    const [alone = 0, p50 = 0, most = 0, bulk = 0] = ['alone', 'p50', 'most', 'bulk'].map((key) => own.get(key));
    t.true(alone > 0 && p50 > alone && most >= p50);
    // Frames and the line's ticks take some of it.
    t.true(bulk > 50 && bulk <= 105, `${bulk} %`);
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

test.serial('--help says what there is, and an argument that is not valid is told in one line, with 64', async (t) => {
  for (const [name, file, help] of [
    ['bench', script, HELP],
    ['bench:vm', 'dist/tools/bench/vm.js', VM_HELP],
    ['soak', 'dist/tools/bench/soak/index.js', SOAK_HELP],
  ] as const) {
    const [shown, wrong] = ['--help', '--x'].map((word) => spawnVproxy(t, [word], { script: file }));
    t.deepEqual([await shown?.exited, shown?.stdout], [{ code: 0, signal: null }, help]);
    t.deepEqual(await wrong?.exited, { code: 64, signal: null });
    t.regex(wrong?.lines.join('\n') ?? '', new RegExp(`^${name}: .*$`));
  }
});

function commandLineOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

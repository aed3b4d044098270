/** Many channels in one process: what the guest on one of them does, its neighbours hardly notice. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { MuxStream } from '../../lib/session/mux-stream.js';
import { within } from '../helpers/eventually.js';
import { FLOODS, HOSTILE_GUEST, HOSTILITIES } from '../helpers/hostile-guest.js';
import { processorTime } from '../helpers/processor-time.js';
import { PROJECT_ROOT } from '../helpers/project-root.js';
import { echo, localServer, TestProxy } from '../helpers/proxies.js';
import { PROXY_PROGRAM } from '../helpers/proxy-program.js';
import { temporaryFolder } from '../helpers/temp-folder.js';
import { spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';

/** Quiet and disturbed rounds follow each other; the medians of both are compared. */
const ROUNDS = 5;
const ECHOES_PER_ROUND = 150;

/** Somebody types: between two echoes the process may do what it likes. */
const PAUSE_MS = 1;

/** What a neighbour's slowest echoes may come to: twice the quiet value, and what collecting garbage takes meanwhile. */
const allowedMs = (quietMs: number): number => 2 * quietMs + 2;

/** A process with a channel for a guest of each kind, and a stream over the good one's. */
interface Setup {
  readonly folder: string;
  readonly vproxy: VproxyProcess;
  readonly stream: MuxStream;
}

async function setUp(t: ExecutionContext): Promise<Setup> {
  const folder = temporaryFolder(t);
  await localServer(t, echo, { path: join(folder, 'echo') });
  const incoming = ['echo', 'sink', 'source'].map((name) => `${name}:${join(folder, name)}`);
  const channels = ['hostile', 'good'].map((label) => ({
    label,
    channel: `unix-listen:${join(folder, label)}.sock`,
    incoming,
  }));
  const vproxy = spawnVproxy(t, [JSON.stringify({ channels })], { script: PROXY_PROGRAM });
  await vproxy.waitForLine(/waiting for the peer on .*good/);
  const guest = new TestProxy(t, `unix-connect:${join(folder, 'good.sock')}`);
  await guest.start();
  const stream = await guest.proxy.connect('echo');
  t.teardown(() => stream.destroy());
  return { folder, vproxy, stream };
}

/** Starts the hostile guest; it has begun. */
async function startHostile(t: ExecutionContext, what: string, folder: string) {
  const child = spawn(process.execPath, [join(PROJECT_ROOT, HOSTILE_GUEST), what, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const gone = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await gone;
  });
  const begun = once(child.stdout, 'data');
  await within(30_000, 'the hostile guest', Promise.race([begun, gone]));
  return child;
}

/**
 * One echo of a byte, in milliseconds. What the two processes waited for a processor is not counted: it is other
 * programs that had it, and says nothing of how the channels share the process.
 */
async function measureEcho({ vproxy, stream }: Setup): Promise<number> {
  const waitedMs = () => processorTime(vproxy.pid).waitedMs + processorTime(process.pid).waitedMs;
  const waitedBeforeMs = waitedMs();
  const startedAt = performance.now();
  const answer = once(stream, 'data');
  stream.write('x');
  await within(10_000, 'the echo on the good channel', answer);
  const tookMs = performance.now() - startedAt;
  return Math.max(0, tookMs - (waitedMs() - waitedBeforeMs));
}

/** What 99 of 100 echoes take at most, and the processor time of the process meanwhile, both in milliseconds. */
async function measureRound(setup: Setup): Promise<{ readonly echoMs: number; readonly ranMs: number }> {
  const { ranMs } = processorTime(setup.vproxy.pid);
  const timesMs: number[] = [];
  for (let count = 0; count < ECHOES_PER_ROUND; count += 1) {
    timesMs.push(await measureEcho(setup));
    await delay(PAUSE_MS);
  }
  timesMs.sort((one, other) => one - other);
  const echoMs = timesMs[Math.ceil(0.99 * timesMs.length) - 1] ?? 0;
  return { echoMs, ranMs: processorTime(setup.vproxy.pid).ranMs - ranMs };
}

const median = (values: readonly number[]): number =>
  values.toSorted((one, other) => one - other)[values.length >> 1] ?? 0;

for (const what of Object.keys(HOSTILITIES)) {
  test.serial(`a neighbour's echoes beside a guest that ${what} stay within twice the quiet time`, async (t) => {
    const setup = await setUp(t);
    const guest = await startHostile(t, what, setup.folder);
    const rounds = { quiet: [], beside: [] } as Record<'quiet' | 'beside', { echoMs: number; ranMs: number }[]>;
    for (let round = 0; round < ROUNDS; round += 1) {
      guest.kill('SIGSTOP');
      rounds.quiet.push(await measureRound(setup));
      guest.kill('SIGCONT');
      rounds.beside.push(await measureRound(setup));
    }
    const medianOf = (which: 'quiet' | 'beside', key: 'echoMs' | 'ranMs') =>
      median(rounds[which].map((one) => one[key]));
    const [quietMs, besideMs] = [medianOf('quiet', 'echoMs'), medianOf('beside', 'echoMs')];
    const [quietRanMs, besideRanMs] = [medianOf('quiet', 'ranMs'), medianOf('beside', 'ranMs')];
    const figures = `99 %: ${quietMs.toFixed(2)} ms quiet, ${besideMs.toFixed(2)} ms beside it; ran ${quietRanMs.toFixed(0)} and ${besideRanMs.toFixed(0)} ms`;
    t.log(figures);
    t.true(besideMs <= allowedMs(quietMs), figures);
    // Else nothing was shown.
    t.is(guest.exitCode, null);
    if (FLOODS.has(what)) t.true(besideRanMs > 2 * quietRanMs, figures);
    t.deepEqual(
      setup.vproxy.lines.filter((line) => /good: .* ended|internal: /.test(line)),
      [],
    );
  });
}

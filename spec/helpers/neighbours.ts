/** Two guests of one process: a hostile one, and a good one whose echoes are measured. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { MuxStream } from '../../lib/session/mux-stream.js';
import { PROJECT_ROOT, temporaryFolder } from './files.js';
import { HOSTILE_GUEST } from './hostile-guest.js';
import { processorTime } from './measures.js';
import { echo, localServer, TestProxy } from './proxies.js';
import { PROXY_PROGRAM } from './proxy-program.js';
import { within } from './time.js';
import { spawnVproxy, type VproxyProcess } from './vproxy-process.js';

/** A process with a channel for a guest of each kind, and a stream over the good one's. */
export interface Neighbours {
  readonly folder: string;
  readonly vproxy: VproxyProcess;
  readonly guest: TestProxy;
  readonly stream: MuxStream;
}

/** What the hostile guest's channel has beside its usual services. */
export interface HostileChannel {
  readonly incoming?: readonly string[];
  /** Further options of a channel, as a program has them. */
  readonly options?: Readonly<Record<string, unknown>>;
}

export async function startNeighbours(t: ExecutionContext, hostile: HostileChannel = {}): Promise<Neighbours> {
  const folder = temporaryFolder(t);
  await localServer(t, echo, { path: join(folder, 'echo') });
  const incoming = ['echo', 'sink', 'deaf', 'source'].map((name) => `${name}:${join(folder, name)}`);
  const channels = ['hostile', 'good'].map((label) => ({
    label,
    channel: `unix-listen:${join(folder, label)}.sock`,
    incoming: label === 'hostile' ? [...incoming, ...(hostile.incoming ?? [])] : incoming,
    ...(label === 'hostile' ? hostile.options : {}),
  }));
  const vproxy = spawnVproxy(t, [JSON.stringify({ channels })], { script: PROXY_PROGRAM });
  await vproxy.waitForLine(/waiting for the peer on .*good/);
  const guest = new TestProxy(t, `unix-connect:${join(folder, 'good.sock')}`);
  await guest.start();
  const stream = await guest.proxy.connect('echo');
  t.teardown(() => stream.destroy());
  return { folder, vproxy, guest, stream };
}

/** Starts the hostile guest; it has begun. */
export async function startHostile(t: ExecutionContext, what: string, folder: string, program = HOSTILE_GUEST) {
  const child = spawn(process.execPath, [join(PROJECT_ROOT, program), what, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const gone = once(child, 'exit');
  const killNow = () => child.kill('SIGKILL');
  // A test process that the runner kills must not leave it behind.
  process.once('exit', killNow);
  t.teardown(async () => {
    process.off('exit', killNow);
    killNow();
    await gone;
  });
  const begun = once(child.stdout, 'data');
  await within(30_000, 'the hostile guest', Promise.race([begun, gone]));
  return child;
}

/**
 * One echo of a byte, in milliseconds. What the two processes waited for a processor is not counted: other programs
 * had it then, which says nothing about how the channels share the process.
 */
export async function measureEcho({ vproxy, stream }: Neighbours): Promise<number> {
  const waitedMs = () => processorTime(vproxy.pid).waitedMs + processorTime(process.pid).waitedMs;
  const waitedBeforeMs = waitedMs();
  const startedAt = performance.now();
  const answer = once(stream, 'data');
  stream.write('x');
  await within(10_000, 'the echo on the good channel', answer);
  const tookMs = performance.now() - startedAt;
  return Math.max(0, tookMs - (waitedMs() - waitedBeforeMs));
}

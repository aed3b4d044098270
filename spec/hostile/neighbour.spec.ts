/**
 * Two channels in one process: what a hostile peer does on one of them does not stop the other, nor fill the process. How long
 * echoes take beside one that has a process of its own is measured in proxy/many-channels and in neighbour-surfaces.
 */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { peakBytes, resetPeak, residentBytes } from '../helpers/measures.js';
import { echo, localServer, TestProxy } from '../helpers/proxies.js';
import { PROXY_PROGRAM } from '../helpers/proxy-program.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { eventually, within } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';
import { FLOOD_MEMORY_BYTES, type HostileCase } from './case.js';
import { FLOOD_CASES } from './flood-cases.js';
import { LOG_CASES } from './log-cases.js';
import { OPENING_CASES } from './opening-cases.js';

/** Slower than this, the neighbour has been stopped: the hostile peer shares this process, so that nothing finer is said here. */
const HANG_MS = 10_000;

/** The floods that cost a process most, before and in a session, and many lines for its log. */
const CHOSEN = [...OPENING_CASES, ...FLOOD_CASES, ...LOG_CASES].filter(({ what }) =>
  [
    /^random bytes/,
    /^headers of HELLO, each within/,
    /^HELLOs with ever new nonces, and reads the answers/,
    /^PINGs, and reads nothing/,
    /in step with the answers/,
    /reset before the answer, and reads$/,
    /^escapes in every message/,
  ].some((pattern) => pattern.test(what)),
);

/** The number of echoes that are measured at least, also where a case is over sooner. */
const MIN_ECHOES = 20;

/** Echoes one byte after the other on the second channel until `isOver`; returns the times that they took. */
async function measureEcho(t: ExecutionContext, path: string, isOver: () => boolean): Promise<number[]> {
  const neighbour = new TestProxy(t, `unix-connect:${path}`);
  await neighbour.start();
  const stream = await neighbour.proxy.connect('echo');
  t.teardown(() => stream.destroy());
  const timesMs: number[] = [];
  while (!isOver() || timesMs.length < MIN_ECHOES) {
    const startedAt = performance.now();
    const answer = new Promise((resolve) => stream.once('data', resolve));
    stream.write('x');
    await within(HANG_MS, 'the echo on the other channel', answer);
    timesMs.push(performance.now() - startedAt);
  }
  return timesMs;
}

async function runBeside(t: ExecutionContext, { act, isOpening = false, peer: options }: HostileCase): Promise<void> {
  const folder = temporaryFolder(t);
  for (const name of ['echo', 'deaf', 'hang']) {
    await localServer(t, name === 'echo' ? echo : (socket) => void socket.resume(), { path: join(folder, name) });
  }
  const incoming = [`echo:${join(folder, 'echo')}`, `deaf:${join(folder, 'deaf')}`];
  const hostile = join(folder, 'hostile.sock');
  const friendly = join(folder, 'friendly.sock');
  const proxies = [
    { channel: `unix-listen:${hostile}`, incoming: [...incoming, `hang:vsock-mux:${join(folder, 'hang')}:1`] },
    { channel: `unix-listen:${friendly}`, incoming },
  ];
  const vproxy = spawnVproxy(t, [JSON.stringify({ proxies })], { script: PROXY_PROGRAM });
  await vproxy.waitForLine(/waiting for the peer on .*friendly/);
  const state = { isOver: false };
  const measured = measureEcho(t, friendly, () => state.isOver);
  const warm = await SocketPeer.established(hostile);
  await warm.echo();
  warm.close();
  const idleBytes = residentBytes(vproxy.pid);
  resetPeak(vproxy.pid);

  const peer = isOpening ? new SocketPeer({ path: hostile }, options) : await SocketPeer.established(hostile, options);
  t.teardown(() => peer.close());
  await act(peer, { taps: new Set(), dial: () => peer.socket });
  state.isOver = true;
  const timesMs = (await measured).sort((one, other) => one - other);
  const grownBytes = peakBytes(vproxy.pid) - idleBytes;
  const at = (share: number) =>
    (timesMs[Math.min(timesMs.length - 1, Math.floor(share * timesMs.length))] ?? 0).toFixed(1);
  t.log(
    `${timesMs.length} echoes: median ${at(0.5)} ms, 99 % ${at(0.99)} ms, longest ${at(1)} ms, ${grownBytes >> 20} MiB more`,
  );
  t.true(grownBytes < FLOOD_MEMORY_BYTES, `${grownBytes}`);
  t.false(
    vproxy.lines.some((line) => /friendly.* ended|internal: /.test(line)),
    vproxy.lines.join('\n'),
  );

  const good = await SocketPeer.established(hostile);
  t.teardown(() => good.close());
  await eventually(() => good.echo().then(() => true));
}

for (const hostile of CHOSEN) {
  test.serial(`the other channel answers while a peer sends ${hostile.what}`, (t) => runBeside(t, hostile));
}

/** A listening channel with the option `exclusive`: its peer keeps it while alive (R-CHANNEL-3). */
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { answerTo, echo, localServer, openEcho, startProxy, type TestProxy } from '../helpers/proxies.js';
import { CuttingRelay } from '../helpers/relays.js';
import { eventually, ManualClock } from '../helpers/time.js';

interface Setup {
  readonly options?: string;
  readonly keyFiles?: readonly string[];
  /** The clock of the side that listens. */
  readonly clock?: ManualClock;
  /** Carries connections to `near` on to `far`. Default: the first peer connects to `far` itself. */
  readonly relay?: (near: string, far: string) => Promise<unknown>;
}

/** A side that listens, its peer with a stream, and a function that starts another one. */
async function heldChannel(t: ExecutionContext, { options = '', keyFiles = [], clock, relay }: Setup) {
  const folder = temporaryFolder(t);
  const [near, path] = [join(folder, 'near'), join(folder, 'far')];
  const { port } = await localServer(t, echo);
  const a = await startProxy(t, `unix-listen:${path},exclusive${options}`, {
    outgoing: ['echo:0'],
    keyFiles,
    ...(clock && { clock }),
  });
  await relay?.(near, path);
  const connect = (name: string, to = path) =>
    startProxy(t, `unix-connect:${to}${options}`, { name, incoming: [`echo:${port}`], keyFiles });
  const b = await connect('host1', relay === undefined ? path : near);
  await Promise.all([a, b].map((side) => side.event('services')));
  return { a, b, path, connect, socket: await openEcho(t, a.port('echo')) };
}

const refusals = ({ proxy }: TestProxy): number => proxy.channel('default').history.ends['channel-busy'] ?? 0;

/** Makes a side retry at once until something has happened. */
const retryUntil = (side: TestProxy, isDone: () => boolean) =>
  eventually(() => {
    side.proxy.retryNow();
    return isDone();
  });

for (const options of ['', ',tls=psk', ',resume=1m']) {
  test(`R-CHANNEL-3: a peer keeps the channel and its streams; another one waits, with one line on each side${options}`, async (t) => {
    const keyFiles = options.includes('tls') ? [writeKeyFile(temporaryFolder(t), 'key', '1f')] : [];
    const { a, b, path, connect, socket } = await heldChannel(t, { options, keyFiles });
    const c = await connect('host2');
    await retryUntil(c, () => refusals(c) >= 3);
    t.is(await answerTo(socket, 'after'), 'after');
    t.deepEqual(
      [a, b, c].map((side) => side.count('session-established')),
      [1, 1, 0],
    );
    const lines = [a, c].map((side) =>
      side.events.flatMap(({ event, level, message }) =>
        event === 'session-ended' && level === 'warn' ? [message] : event === 'channel-waiting' ? [message] : [],
      ),
    );
    const busy = 'the listener is in use by another peer';
    t.deepEqual(lines, [
      [`session on unix-listen:${path} ended: refused host2, vproxy test: ${busy} (channel-busy)`],
      [`session on unix-connect:${path} ended: ${busy} (channel-busy)`, `${busy}; retrying`],
    ]);
    await b.proxy.stop();
    await retryUntil(c, () => c.count('session-established') === 1);
    t.is(await answerTo(await openEcho(t, a.port('echo')), 'again'), 'again');
  });
}

test('R-CHANNEL-3: where silence ends no session, a peer that is silent for a minute loses the channel', async (t) => {
  const clock = new ManualClock();
  const relay = new CuttingRelay();
  const { a, connect } = await heldChannel(t, { clock, relay: (near, far) => relay.start(t, near, far) });
  relay.stall();
  clock.advance(55_000);
  const c = await connect('host2');
  await retryUntil(c, () => refusals(c) > 0);
  clock.advance(10_000);
  await retryUntil(c, () => c.count('session-established') === 1);
  const displaced = /ended: a newer connection took the channel: host2, vproxy test \(channel-displaced\)$/;
  t.is(a.all('session-ended').filter(({ message }) => displaced.test(message)).length, 1);
});

for (const [options, event] of [
  ['', 'session-established'],
  [',resume=1m', 'session-resumed'],
] as const) {
  test(`R-CHANNEL-3: a peer that lost its link before the other side notices comes back at once${options}`, async (t) => {
    const nearEnds: net.Socket[] = [];
    const { a, b, socket } = await heldChannel(t, {
      options,
      // When the near end of a connection is destroyed, its far end stays open.
      relay: (near, path) =>
        localServer(
          t,
          (end) => {
            nearEnds.push(end.on('error', () => undefined));
            end.pipe(net.connect(path).on('error', () => undefined)).pipe(end);
          },
          { path: near },
        ),
    });
    const since = a.events.length;
    nearEnds[0]?.destroy();
    b.proxy.retryNow();
    await a.event(event, since);
    t.is(refusals(b), 0);
    if (options !== '') t.is(await answerTo(socket, 'again'), 'again');
  });
}

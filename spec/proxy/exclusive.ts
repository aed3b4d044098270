/** A listening channel with the option `exclusive`: its peer keeps it while alive (R-CHANNEL-3). */
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { answerTo, echo, localServer, openEcho, startProxy, type TestProxy } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** A side that listens, its peer with a stream over a relay whose near ends are given, and a function that starts another one. */
async function heldChannel(t: ExecutionContext, options: string, clock?: ManualClock) {
  const folder = temporaryFolder(t);
  const [near, path] = [join(folder, 'near'), join(folder, 'far')];
  const keyFiles = options.includes('tls') ? [writeKeyFile(folder, 'key', '1f')] : [];
  const { port } = await localServer(t, echo);
  const listening = { outgoing: ['echo:0'], keyFiles, ...(clock && { clock }) };
  const a = await startProxy(t, `unix-listen:${path},exclusive${options}`, listening);
  const ends: net.Socket[] = [];
  // A far end stays open when its near end is destroyed.
  const relay = (end: net.Socket): void => {
    ends.push(end.on('error', () => undefined));
    end.pipe(net.connect(path).on('error', () => undefined)).pipe(end);
  };
  await localServer(t, relay, { path: near });
  const connect = (name: string, to = path) =>
    startProxy(t, `unix-connect:${to}${options}`, { name, incoming: [`echo:${port}`], keyFiles });
  const b = await connect('host1', near);
  await Promise.all([a, b].map((side) => side.event('services')));
  return { a, b, path, ends, connect, socket: await openEcho(t, a.port('echo')) };
}

const refusals = ({ proxy }: TestProxy): number => proxy.channel('default').history.ends['channel-busy'] ?? 0;

/** Makes a side retry at once until something has happened. */
const retryUntil = (side: TestProxy, isDone: () => boolean) => eventually(() => (side.proxy.retryNow(), isDone()));

for (const options of ['', ',tls=psk', ',resume=1m']) {
  test(`R-CHANNEL-3: a peer keeps the channel and its streams; another one waits, with one line on each side${options}`, async (t) => {
    const { a, b, path, connect, socket } = await heldChannel(t, options);
    const c = await connect('host2');
    await retryUntil(c, () => refusals(c) >= 3);
    t.is(await answerTo(socket, 'after'), 'after');
    t.deepEqual(
      [a, c].map((side) => side.count('session-established')),
      [1, 0],
    );
    const isSaid = ({ event, level }: TestProxy['events'][number]): boolean =>
      event === 'channel-waiting' || (event === 'session-ended' && level === 'warn');
    const lines = [a, c].flatMap(({ events }) => events.filter(isSaid).map(({ message }) => message));
    const busy = 'the listener is in use by another peer';
    t.deepEqual(lines, [
      `session on unix-listen:${path} ended: refused host2, vproxy test: ${busy} (channel-busy)`,
      `session on unix-connect:${path} ended: ${busy} (channel-busy)`,
      `${busy}; retrying`,
    ]);
    await b.proxy.stop();
    await retryUntil(c, () => c.count('session-established') === 1);
    t.is(await answerTo(await openEcho(t, a.port('echo')), 'again'), 'again');
  });
}

test('R-CHANNEL-3: where silence ends no session, a peer that is silent for a minute loses the channel', async (t) => {
  const clock = new ManualClock();
  const { a, ends, connect } = await heldChannel(t, '', clock);
  ends[0]?.unpipe().pause();
  clock.advance(55_000);
  const c = await connect('host2');
  await retryUntil(c, () => refusals(c) > 0);
  clock.advance(10_000);
  await retryUntil(c, () => c.count('session-established') === 1);
  const displaced = /: a newer connection took the channel: host2, vproxy test \(channel-displaced\)$/;
  await eventually(() => a.all('session-ended').some(({ message }) => displaced.test(message)));
  t.is(a.count('session-established'), 2);
});

for (const [options, event] of [
  ['', 'session-established'],
  [',resume=1m', 'session-resumed'],
] as const) {
  test(`R-CHANNEL-3: a peer that lost its link before the other side notices comes back at once${options}`, async (t) => {
    const { a, b, ends, socket } = await heldChannel(t, options);
    const since = a.events.length;
    ends[0]?.destroy();
    b.proxy.retryNow();
    await a.event(event, since);
    t.is(refusals(b), 0);
    if (options !== '') t.is(await answerTo(socket, 'again'), 'again');
  });
}

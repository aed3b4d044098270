/** A session goes on with another link of its channel, over real sockets (docs/channels.md, "Resuming"). */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync } from 'node:fs';
import type net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { LogEventName } from '../../lib/events.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import {
  echo,
  failureOf,
  localServer,
  localSocket,
  type ProxySetup,
  readToEnd,
  TestProxy,
} from '../helpers/proxies.js';
import { CuttingRelay, TcpRelay } from '../helpers/relays.js';
import { stayingChannel } from '../helpers/staying-channel.js';
import { eventually } from '../helpers/time.js';
import { MAX_TRANSFER_BYTES, type Outcome, outcomeOf, pattern } from '../helpers/traffic.js';

interface Setup {
  /** Behind both addresses. */
  readonly options?: string;
  readonly a?: ProxySetup;
  readonly b?: ProxySetup;
}

/** Two proxies with a session through a relay that can be cut; `b` dials. */
class CutPair {
  readonly relay = new CuttingRelay();
  readonly a: TestProxy;
  readonly b: TestProxy;
  /** Past the relay. */
  readonly address: string;
  readonly #paths: readonly [near: string, far: string];

  constructor(t: ExecutionContext, { options = 'resume=60s', a = {}, b = {} }: Setup) {
    const folder = temporaryFolder(t);
    this.#paths = [join(folder, 'near'), join(folder, 'far')];
    this.a = new TestProxy(t, `unix-listen:${this.#paths[1]},${options}`, { name: 'a', ...a });
    this.address = `unix-connect:${this.#paths[1]},${options}`;
    this.b = new TestProxy(t, `unix-connect:${this.#paths[0]},${options}`, { name: 'b', ...b });
  }

  /** Until each side knows what the other offers: then each has the other's part of the secret, too. */
  async start(t: ExecutionContext): Promise<this> {
    await this.relay.start(t, ...this.#paths);
    await this.a.start();
    await this.b.start();
    await Promise.all([this.a.event('services'), this.b.event('services')]);
    return this;
  }

  /** Cuts the channel; it stays cut until `mend`. */
  async cut(): Promise<void> {
    const suspended = this.#next('session-suspended');
    this.relay.leftBytes = 0;
    this.relay.cut();
    await suspended;
  }

  async mend(): Promise<void> {
    const resumed = this.#next('session-resumed');
    this.relay.leftBytes = Number.POSITIVE_INFINITY;
    this.b.proxy.retryNow();
    await resumed;
  }

  async #next(event: LogEventName): Promise<void> {
    await Promise.all([this.a, this.b].map((side) => side.event(event, side.events.length)));
  }
}

const startPair = (t: ExecutionContext, setup: Setup): Promise<CutPair> => new CutPair(t, setup).start(t);

const count = ({ events }: TestProxy, name: LogEventName): number =>
  events.filter(({ event }) => event === name).length;

/** A connection through the pair's forward to an echo, which has answered once. */
async function openEcho(t: ExecutionContext, pair: CutPair): Promise<net.Socket> {
  const socket = localSocket(t, { host: '127.0.0.1', port: pair.a.port('echo') });
  socket.write('hello');
  t.is(String((await once(socket, 'data'))[0]), 'hello');
  return socket;
}

async function echoPair(t: ExecutionContext, setup: Setup = {}): Promise<CutPair> {
  const target = await localServer(t, echo);
  return startPair(t, {
    ...setup,
    a: { outgoing: ['echo:0'], ...setup.a },
    b: { incoming: [`echo:${target.port}`], ...setup.b },
  });
}

const TRANSFERS = 4;

for (const [what, options] of [
  ['in clear', 'resume=60s'],
  ['with full integrity', 'resume=60s,integrity=full'],
  ['with as little memory as can be', 'resume=60s,resume-memory=1MiB'],
  ['inside TLS', 'resume=60s,tls=psk'],
  ['with a key', 'resume=60s'],
] as const) {
  test(`transfers both ways are whole, however often the channel is cut: ${what}`, async (t) => {
    const keyFiles = / TLS|key/.test(what) ? [writeKeyFile(temporaryFolder(t), 'one.key', '1f')] : [];
    const outcomes: Promise<Outcome>[] = [];
    const target = await localServer(t, (socket) => {
      outcomes.push(outcomeOf(socket));
      socket.end(pattern(MAX_TRANSFER_BYTES));
    });
    const pair = await startPair(t, {
      options,
      a: { keyFiles, outgoing: ['x:0'] },
      b: { keyFiles, incoming: [`x:${target.port}`] },
    });
    const { relay, a, b } = pair;
    relay.onCut = () => {
      // Enough for the opening in most cases; the next link is tried at once.
      relay.leftBytes = randomInt(1, 2_000_000);
      setImmediate(() => b.proxy.retryNow());
    };
    relay.leftBytes = randomInt(1, 1_000_000);
    const near = Array.from({ length: TRANSFERS }, () => localSocket(t, { host: '127.0.0.1', port: a.port('x') }));
    outcomes.push(...near.map((socket) => outcomeOf(socket)));
    for (const socket of near) socket.end(pattern(MAX_TRANSFER_BYTES));
    await eventually(() => outcomes.length === 2 * TRANSFERS);
    for (const outcome of await Promise.all(outcomes)) {
      t.deepEqual(outcome, { end: 'ended', receivedBytes: MAX_TRANSFER_BYTES, isPrefix: true });
    }
    for (const side of [a, b]) {
      t.is(count(side, 'session-ended'), 0);
      t.is(count(side, 'session-established'), 1);
      t.true(side.proxy.channel('default').totals.resumptions >= 5);
      t.true(side.proxy.channel('default').totals.resentBytes > 0);
    }
  });
}

test('a suspended channel says so; what is opened meanwhile waits, and is served', async (t) => {
  const pair = await echoPair(t);
  const { a, b } = pair;
  const early = await openEcho(t, pair);
  t.deepEqual(a.proxy.channel('default').session?.resume, { here: true, peer: true });
  await pair.cut();
  for (const side of [a, b]) {
    const { state, session, detail } = side.proxy.channel('default');
    t.is(state, 'suspended');
    t.is(session?.streams, 1);
    t.regex(String(detail), /lost its link; 1 stream waits for another$/);
  }
  const dials = () => [a, b].some(({ proxy }) => proxy.channel('default').nextTryMs !== null);
  await eventually(dials, { what: 'the time of the next attempt' });
  const late = localSocket(t, { host: '127.0.0.1', port: a.port('echo') });
  late.end('late');
  const answer = readToEnd(late);
  early.write('early');
  await once(late, 'connect');
  await pair.mend();
  t.is(String((await once(early, 'data'))[0]), 'early');
  t.is(String(await answer), 'late');
  const { state, nextTryMs, totals, history } = a.proxy.channel('default');
  t.deepEqual([state, nextTryMs, totals.resumptions, history.sessions], ['established', null, 1, 1]);
  const { fields } = await a.event('session-resumed');
  t.is(fields['streams'], 1);
  t.true(Number(fields['suspendedMs']) >= 0);
});

test('what is offered while there is no link is known on the next', async (t) => {
  const pair = await echoPair(t);
  await pair.cut();
  const { port } = await localServer(t, echo);
  await pair.b.proxy.addForward(parseForwardSpec('incoming', `late:${port}`));
  const offered = () => pair.a.proxy.listServices().map(({ service }) => service);
  t.deepEqual(offered(), ['echo']);
  await pair.mend();
  await eventually(() => offered().includes('late'));
  t.deepEqual(offered(), ['echo', 'late']);
});

test('without another link in time the session ends, and so do its streams', async (t) => {
  const pair = await echoPair(t, { options: 'resume=1s' });
  const socket = await openEcho(t, pair);
  const failure = failureOf(socket);
  await pair.cut();
  for (const side of [pair.a, pair.b]) {
    t.is((await side.event('session-ended')).fields['code'], 'resume-expired');
    t.is(side.proxy.channel('default').session, null);
  }
  t.is((await failure).code, 'ECONNRESET');
});

test('another process in the place of the peer ends the session, with its streams', async (t) => {
  const pair = await echoPair(t);
  const socket = await openEcho(t, pair);
  const failure = failureOf(socket);
  await pair.cut();
  const other = new TestProxy(t, pair.address, { name: 'other' });
  await other.start();
  t.is((await pair.a.event('session-ended')).fields['code'], 'peer-restarted');
  t.is((await failure).code, 'ECONNRESET');
});

test('a side that is stopped, or drained, does not wait for another link', async (t) => {
  const pair = await echoPair(t);
  const socket = await openEcho(t, pair);
  const failure = failureOf(socket);
  await pair.cut();
  await pair.a.proxy.stop();
  t.is((await pair.a.event('session-ended')).fields['code'], 'shutdown');
  t.is((await failure).code, 'ECONNRESET');
  await pair.b.proxy.drain();
  t.is((await pair.b.event('session-ended')).fields['code'], 'shutdown');
});

test('a session goes on by its own key when another one is preferred by then, and not without its key', async (t) => {
  const folder = temporaryFolder(t);
  const [one, other] = [writeKeyFile(folder, 'one.key', '1f'), writeKeyFile(folder, 'other.key', '2e')];
  const keyFiles = [join(folder, 'first'), join(folder, 'second')] as const;
  const write = (first: string, second: string): void => {
    copyFileSync(first, keyFiles[0]);
    copyFileSync(second, keyFiles[1]);
  };
  write(one, other);
  const pair = await echoPair(t, { a: { keyFiles }, b: { keyFiles } });
  const change = (first: string, second: string): void => {
    write(first, second);
    for (const { proxy } of [pair.a, pair.b]) proxy.reloadKeys();
  };
  const socket = await openEcho(t, pair);
  await pair.cut();
  change(other, one);
  await pair.mend();
  socket.write('by its key');
  t.is(String((await once(socket, 'data'))[0]), 'by its key');
  const failure = failureOf(socket);
  await pair.cut();
  change(other, other);
  pair.relay.leftBytes = Number.POSITIVE_INFINITY;
  pair.b.proxy.retryNow();
  t.is((await pair.a.event('session-ended')).fields['code'], 'resume-refused');
  t.is((await failure).code, 'ECONNRESET');
});

test('a link that has gone silent is given up, and the session goes on with the next', async (t) => {
  const pair = await echoPair(t, { a: { deadAfterMs: 300 }, b: { deadAfterMs: 300 } });
  const socket = await openEcho(t, pair);
  const suspended = pair.b.event('session-suspended');
  pair.relay.stall();
  socket.write('through');
  await suspended;
  t.is(String((await once(socket, 'data'))[0]), 'through');
  t.is(count(pair.a, 'session-ended'), 0);
});

test('the end of a session that was resumed is told of the link that it had last', async (t) => {
  const listener = new TestProxy(t, 'tcp-listen:127.0.0.1:0');
  await listener.start();
  const port = Number(/:(\d+)$/.exec((await listener.event('channel-listening')).message)?.[1]);
  const relay = new TcpRelay();
  const dialler = new TestProxy(t, `tcp-connect:127.0.0.1:${await relay.start(t, port)}`);
  await dialler.start();
  await Promise.all([listener, dialler].map((side) => side.event('services')));
  const { fields: first } = await listener.event('session-established');
  relay.fail('rst');
  await listener.event('session-suspended');
  dialler.proxy.retryNow();
  const [{ fields: second }] = await Promise.all([listener.event('session-resumed'), dialler.event('session-resumed')]);
  t.not(second['link'], first['link']);
  await dialler.proxy.stop();
  t.is((await listener.event('session-ended')).fields['link'], second['link']);
});

test('where one side has no `resume`, a session ends with its link', async (t) => {
  const folder = temporaryFolder(t);
  const [near, far] = [join(folder, 'near'), join(folder, 'far')];
  const relay = new CuttingRelay();
  await relay.start(t, near, far);
  const a = new TestProxy(t, `unix-listen:${far}`);
  const b = new TestProxy(t, `unix-connect:${near},resume=60s`);
  await a.start();
  await b.start();
  await Promise.all([a.event('services'), b.event('services')]);
  t.deepEqual(a.proxy.channel('default').session?.resume, { here: false, peer: true });
  t.deepEqual(b.proxy.channel('default').session?.resume, { here: true, peer: false });
  relay.leftBytes = 0;
  relay.cut();
  for (const side of [a, b]) t.is((await side.event('session-ended')).fields['code'], 'channel-closed');
});

test('where one side alone loses its link, as a guest whose port is unplugged, streams go on over the link of the other', async (t) => {
  const folder = temporaryFolder(t);
  const channel = await stayingChannel(t, folder);
  const near = join(folder, 'near');
  const relay = new CuttingRelay();
  await relay.start(t, near, channel.right);
  const target = await localServer(t, echo);
  const host = new TestProxy(t, `unix-connect:${channel.left},resume=60s`, { outgoing: ['echo:0'] });
  const guest = new TestProxy(t, `unix-connect:${near},resume=60s`, { incoming: [`echo:${target.port}`] });
  await host.start();
  await guest.start();
  await Promise.all([host.event('services'), guest.event('services')]);
  const socket = localSocket(t, { host: '127.0.0.1', port: host.port('echo') });
  socket.write('hello');
  await once(socket, 'data');
  relay.leftBytes = 0;
  relay.cut();
  await guest.event('session-suspended');
  t.is(host.proxy.channel('default').state, 'established');
  relay.leftBytes = Number.POSITIVE_INFINITY;
  guest.proxy.retryNow();
  t.regex((await host.event('session-suspended')).message, /is out of step: .* \(peer-restarted\); 1 stream waits/);
  await Promise.all([host.event('session-resumed'), guest.event('session-resumed')]);
  socket.write(' again');
  t.is(String((await once(socket, 'data'))[0]), ' again');
  for (const { proxy } of [host, guest]) t.is(proxy.channel('default').history.sessions, 1);
});

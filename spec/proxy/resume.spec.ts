/** A session resumes on another link of its channel, over real sockets (docs/channel-options.md, "Resuming"). */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { LogEventName } from '../../lib/events.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { Exchanges } from '../helpers/exchanges.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import {
  answerTo,
  echo,
  failureOf,
  localServer,
  localSocket,
  openEcho,
  type ProxySetup,
  portOf,
  startProxy,
  TestProxy,
} from '../helpers/proxies.js';
import { CuttingRelay, TcpRelay } from '../helpers/relays.js';
import { stayingChannel } from '../helpers/staying-channel.js';
import { advanceUntil, eventually, ManualClock } from '../helpers/time.js';

const next = (sides: readonly TestProxy[], event: LogEventName) =>
  Promise.all(sides.map((side) => side.event(event, side.events.length)));

interface Setup {
  /** Options of the channel, at the listening and at the dialling side. */
  readonly options?: readonly [a: string, b: string];
  readonly a?: ProxySetup;
  readonly b?: ProxySetup;
}

const BOTH = [',resume=60s', ',resume=60s'] as const;

/** Two proxies with a session through a relay that can be cut; `b` dials. */
class CutPair {
  readonly relay = new CuttingRelay();
  readonly a: TestProxy;
  readonly b: TestProxy;
  /** Bypasses the relay. */
  readonly address: string;
  readonly #paths: readonly [near: string, far: string];

  constructor(t: ExecutionContext, { options = BOTH, a = {}, b = {} }: Setup) {
    const folder = temporaryFolder(t);
    this.#paths = [join(folder, 'near'), join(folder, 'far')];
    this.a = new TestProxy(t, `unix-listen:${this.#paths[1]}${options[0]}`, { name: 'a', ...a });
    this.address = `unix-connect:${this.#paths[1]}${options[1]}`;
    this.b = new TestProxy(t, `unix-connect:${this.#paths[0]}${options[1]}`, { name: 'b', ...b });
  }

  /** Resolves when each side knows the other's services, and with them its part of the secret. */
  async start(t: ExecutionContext): Promise<this> {
    await this.relay.start(t, ...this.#paths);
    for (const side of this.sides) await side.start();
    await Promise.all(this.sides.map((side) => side.event('services')));
    return this;
  }

  get sides(): readonly TestProxy[] {
    return [this.a, this.b];
  }

  /** Cuts the channel, which stays cut until `mend`. */
  async cut(event: LogEventName = 'session-suspended'): Promise<void> {
    const cut = next(this.sides, event);
    this.relay.leftBytes = 0;
    this.relay.cut();
    await cut;
  }

  async mend(event: LogEventName = 'session-resumed'): Promise<void> {
    const mended = next(this.sides, event);
    this.relay.leftBytes = Number.POSITIVE_INFINITY;
    this.b.proxy.retryNow();
    await mended;
  }
}

/** As above, with an echo behind a forward of `a`, and a connection to it. */
async function echoPair(t: ExecutionContext, setup: Setup = {}) {
  const target = await localServer(t, echo);
  const a = { outgoing: ['echo:0'], ...setup.a };
  const pair = await new CutPair(t, { ...setup, a, b: { incoming: [`echo:${target.port}`], ...setup.b } }).start(t);
  return { pair, a: pair.a, b: pair.b, target, socket: await openEcho(t, pair.a.port('echo')) };
}

const CUTS = 6;
const STREAMS = 4;

for (const [what, options] of [
  ['in clear', ''],
  ['with full integrity and as little memory as can be', ',integrity=full,resume-memory=1MiB'],
  ['with a key, inside TLS', ',tls=psk'],
] as const) {
  test.serial(`transfers both ways are complete, however often the channel is cut: ${what}`, async (t) => {
    const keyFiles = options.includes('psk') ? [writeKeyFile(temporaryFolder(t), 'one.key', '1f')] : [];
    const exchanges = await Exchanges.start(t);
    const { relay, a, b, sides } = await new CutPair(t, {
      options: [`,resume=60s${options}`, `,resume=60s${options}`],
      a: { keyFiles, outgoing: [`x:${exchanges.localPath}`] },
      b: { keyFiles, incoming: [`x:${exchanges.targetPath}`] },
    }).start(t);
    await exchanges.open(STREAMS);
    for (let cut = 0; cut < CUTS; cut += 1) {
      // Every other time the next link is lost as well, mostly during its opening.
      const left = [cut % 2 === 0 ? randomInt(1, 2000) : Number.POSITIVE_INFINITY];
      relay.onCut = () => {
        relay.leftBytes = left.pop() ?? Number.POSITIVE_INFINITY;
        setImmediate(() => b.proxy.retryNow());
      };
      const resumed = next(sides, 'session-resumed');
      relay.leftBytes = randomInt(1, 500_000);
      await resumed;
    }
    relay.onCut = () => undefined;
    relay.leftBytes = Number.POSITIVE_INFINITY;
    t.deepEqual(await exchanges.finish(), []);
    for (const side of [a, b]) {
      t.deepEqual([side.count('session-ended'), side.count('session-established')], [0, 1]);
      const { totals } = side.proxy.channel('default');
      t.true(totals.resumptions >= CUTS, `${totals.resumptions}`);
      t.true(totals.resentBytes > 0);
    }
  });
}

test('a suspended channel shows its state; streams and services opened or offered meanwhile wait, and are served', async (t) => {
  const { pair, a, b, target, socket } = await echoPair(t);
  t.deepEqual(a.proxy.channel('default').session?.resume, { here: true, peer: true });
  await pair.cut();
  for (const side of pair.sides) {
    const { state, session, detail } = side.proxy.channel('default');
    t.deepEqual([state, session?.streams], ['suspended', 1]);
    t.regex(String(detail), /lost; waiting to resume \(1 stream\)$/);
  }
  const dials = () => pair.sides.some(({ proxy }) => proxy.channel('default').nextTryMs !== null);
  await eventually(dials, { what: 'the time of the next attempt' });
  const late = localSocket(t, a.port('echo'));
  const answer = answerTo(late, 'late');
  const early = answerTo(socket, 'early');
  await once(late, 'connect');
  await b.proxy.addForward(parseForwardSpec('incoming', `new:${target.port}`));
  const offered = () => a.proxy.listServices().map(({ service }) => service);
  t.deepEqual(offered(), ['echo']);
  await pair.mend();
  t.deepEqual(await Promise.all([early, answer]), ['early', 'late']);
  await eventually(() => offered().includes('new'));
  t.deepEqual(offered(), ['echo', 'new']);
  const { state, nextTryMs, totals, history } = a.proxy.channel('default');
  t.deepEqual([state, nextTryMs, totals.resumptions, history.sessions], ['established', null, 1, 1]);
  const { fields } = await a.event('session-resumed');
  t.is(fields['streams'], 1);
  t.true(Number(fields['suspendedMs']) >= 0);
});

/** Ways to end a session without a link, with the resulting code. */
const ENDS: readonly [
  what: string,
  code: string,
  end: (t: ExecutionContext, pair: CutPair, clock: ManualClock) => unknown,
][] = [
  ['no other link comes in time', 'resume-expired', (_t, _pair, clock) => clock.advance(60_000)],
  ['another process takes the place of the peer', 'peer-restarted', (t, { address }) => startProxy(t, address)],
  ['its side is stopped', 'shutdown', (_t, { a }) => a.proxy.stop()],
  ['its side is drained', 'shutdown', (_t, { a }, clock) => advanceUntil(clock, a.proxy.drain())],
];

for (const [what, code, end] of ENDS) {
  test(`a session without a link ends when ${what}, with its streams`, async (t) => {
    const clock = new ManualClock();
    const { pair, a, socket } = await echoPair(t, { a: { clock } });
    const failure = failureOf(socket);
    await pair.cut();
    await end(t, pair, clock);
    t.is((await a.event('session-ended')).fields['code'], code);
    t.is((await failure).code, 'ECONNRESET');
    if (code !== 'resume-expired') return;
    const { session, state, detail } = a.proxy.channel('default');
    t.deepEqual([session, state], [null, 'waiting']);
    t.regex(detail ?? '', /^waiting for the peer on /);
  });
}

test('if one side has no `resume`, a session ends with its link', async (t) => {
  const { pair, a, b } = await echoPair(t, { options: ['', BOTH[1]] });
  t.deepEqual(a.proxy.channel('default').session?.resume, { here: false, peer: true });
  t.deepEqual(b.proxy.channel('default').session?.resume, { here: true, peer: false });
  await pair.cut('session-ended');
  for (const side of pair.sides) t.is((await side.event('session-ended')).fields['code'], 'channel-closed');
});

test('if only one side loses its link, as a guest whose port is unplugged, streams continue over the link of the other', async (t) => {
  const folder = temporaryFolder(t);
  const channel = await stayingChannel(t, folder);
  const near = join(folder, 'near');
  const relay = new CuttingRelay();
  await relay.start(t, near, channel.right);
  const target = await localServer(t, echo);
  const host = await startProxy(t, `unix-connect:${channel.left},resume=60s`, { outgoing: ['echo:0'] });
  const guest = await startProxy(t, `unix-connect:${near},resume=60s`, { incoming: [`echo:${target.port}`] });
  await Promise.all([host, guest].map((side) => side.event('services')));
  const socket = await openEcho(t, host.port('echo'));
  relay.leftBytes = 0;
  relay.cut();
  await guest.event('session-suspended');
  t.is(host.proxy.channel('default').state, 'established');
  relay.leftBytes = Number.POSITIVE_INFINITY;
  guest.proxy.retryNow();
  const { message } = await host.event('session-suspended');
  t.regex(message, / out of step: .* \(peer-restarted\); waiting to resume \(1 stream\)/);
  await Promise.all([host, guest].map((side) => side.event('session-resumed')));
  t.is(await answerTo(socket, 'again'), 'again');
  for (const { proxy } of [host, guest]) t.is(proxy.channel('default').history.sessions, 1);
});

// A TCP link that holds all bytes back for a while, and releases them after one side has given it up, or none has.

/** The default of TCP. */
const DEAD_AFTER_MS = 30_000;

/** Two proxies with a session over a relay of TCP, each with its own clock, and streams that carry bytes both ways. */
async function stallingPair(t: ExecutionContext) {
  const clocks = { listener: new ManualClock(), dialler: new ManualClock() };
  const exchanges = await Exchanges.start(t);
  const outgoing = [`x:${exchanges.localPath}`];
  const listener = await startProxy(t, 'tcp-listen:127.0.0.1:0', { outgoing, clock: clocks.listener });
  const relay = new TcpRelay();
  const port = await relay.start(t, portOf(String(listener.all('channel-listening')[0]?.message)));
  const incoming = [`x:${exchanges.targetPath}`];
  const dialler = await startProxy(t, `tcp-connect:127.0.0.1:${port}`, { incoming, clock: clocks.dialler });
  const sides = [listener, dialler];
  await Promise.all(sides.map((side) => side.event('services')));
  await exchanges.open(STREAMS);
  /** Waits for a condition while the dialling side retries at once whenever it has no link. */
  const retryUntil = (isDone: () => boolean): Promise<unknown> =>
    eventually(() => {
      if (isDone()) return true;
      dialler.proxy.retryNow();
      return false;
    });
  return { relay, listener, dialler, sides, exchanges, clocks, retryUntil };
}

for (const [who, impatient, isHolding] of [
  ['the side that dials has given up', ['dialler'], true],
  ['the side that listens has given up', ['listener'], true],
  ['each side has given up', ['dialler', 'listener'], true],
  ['the side that dials has given up, and replaced', ['dialler'], false],
] as const) {
  test.serial(`late bytes over a link that ${who} are neither lost nor duplicated`, async (t) => {
    const pair = await stallingPair(t);
    const { relay, sides, exchanges, retryUntil } = pair;
    const [first] = await Promise.all(sides.map((side) => side.event('session-established')));
    for (let round = 0; round < 2; round += 1) {
      relay.isHolding = isHolding;
      const { connections, lateBytes } = relay;
      await exchanges.received(randomInt(1, 1_000_000));
      const before = new Map(sides.map((side) => [side, side.events.length]));
      const says = (side: TestProxy, name: LogEventName): boolean =>
        side.events.slice(before.get(side)).some(({ event }) => event === name);
      const isResumed = () => sides.every((side) => says(side, 'session-resumed'));
      relay.fail('stall');
      for (const name of impatient) {
        await eventually(() => {
          if (says(pair[name], 'session-suspended')) return true;
          pair.clocks[name].advance(5000);
          return false;
        });
      }
      // The next link, which stalls as well, waits behind the one that is still open for the relay.
      if (!isHolding) await retryUntil(isResumed);
      else if (impatient[0] === 'dialler') await retryUntil(() => relay.connections > connections);
      relay.goOn();
      await retryUntil(isResumed);
      if (isHolding) t.true(relay.lateBytes > lateBytes);
      await exchanges.received(1);
    }
    t.deepEqual(await exchanges.finish(), []);
    for (const side of sides) {
      t.is(side.proxy.channel('default').history.sessions, 1);
      t.is(side.count('session-ended'), 0);
    }
    // The end is logged with the last link of the session.
    const { link } = pair.listener.all('session-resumed').at(-1)?.fields ?? {};
    t.not(link, first?.fields['link']);
    await pair.dialler.proxy.stop();
    t.is((await pair.listener.event('session-ended')).fields['link'], link);
  });
}

test('a stall that ends before a side gives up the link is only a pause', async (t) => {
  const { exchanges, sides, clocks, relay } = await stallingPair(t);
  await exchanges.received(1);
  relay.fail('stall');
  for (const clock of Object.values(clocks)) clock.advance(DEAD_AFTER_MS - 1000);
  relay.goOn();
  await exchanges.received(1_000_000);
  t.deepEqual(await exchanges.finish(), []);
  for (const side of sides) {
    t.is(side.proxy.channel('default').totals.resumptions, 0);
    t.is(side.count('session-suspended'), 0);
  }
});

/** A TCP link holds all bytes back for a while, and lets them go when one side has given it up, or neither has (docs/channels.md, "Resuming"). */
import { randomInt } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import type { LogEventName } from '../../lib/events.js';
import { Exchanges } from '../helpers/exchanges.js';
import { TestProxy } from '../helpers/proxies.js';
import { TcpRelay } from '../helpers/relays.js';
import { eventually } from '../helpers/time.js';

const STREAMS = 4;
const ROUNDS = 4;
/** A link stands still when at most so many bytes more have come, all streams and both ways together. */
const MAX_BETWEEN_BYTES = 8_000_000;
/** Of a side that gives the link up; the other one has the default of TCP. */
const DEAD_AFTER_MS = 400;

type Side = 'listener' | 'dialler';

const CASES: readonly (readonly [who: string, impatient: readonly Side[]])[] = [
  ['the side that dials', ['dialler']],
  ['the side that listens', ['listener']],
  ['each side', ['dialler', 'listener']],
];

/** Two proxies with a session over a relay of TCP, and streams that carry bytes both ways all the time. */
class StallingPair {
  readonly relay: TcpRelay;
  readonly listener: TestProxy;
  readonly dialler: TestProxy;
  readonly exchanges: Exchanges;
  /** The events of each side, and its sessions, when the streams were there: on a busy machine one that is impatient may have given up sessions before. */
  readonly #before: ReadonlyMap<TestProxy, { readonly events: number; readonly sessions: number }>;

  private constructor(relay: TcpRelay, listener: TestProxy, dialler: TestProxy, exchanges: Exchanges) {
    this.relay = relay;
    this.listener = listener;
    this.dialler = dialler;
    this.exchanges = exchanges;
    this.#before = new Map(
      this.sides.map((side) => {
        const { sessions } = side.proxy.channel('default').history;
        return [side, { events: side.events.length, sessions }];
      }),
    );
  }

  static async start(t: ExecutionContext, impatient: readonly Side[]): Promise<StallingPair> {
    const patience = (side: Side) => (impatient.includes(side) ? { deadAfterMs: DEAD_AFTER_MS } : {});
    const exchanges = await Exchanges.start(t);
    const listener = new TestProxy(t, 'tcp-listen:127.0.0.1:0', {
      outgoing: [`x:${exchanges.localPath}`],
      ...patience('listener'),
    });
    await listener.start();
    const port = Number(/:(\d+)$/.exec((await listener.event('channel-listening')).message)?.[1]);
    const relay = new TcpRelay();
    const address = `tcp-connect:127.0.0.1:${await relay.start(t, port)}`;
    const dialler = new TestProxy(t, address, { incoming: [`x:${exchanges.targetPath}`], ...patience('dialler') });
    await dialler.start();
    await Promise.all([listener, dialler].map((side) => side.event('services')));
    await exchanges.open(STREAMS);
    return new StallingPair(relay, listener, dialler, exchanges);
  }

  get sides(): readonly TestProxy[] {
    return [this.listener, this.dialler];
  }

  /** Waits for bytes, holds all that follow back, and gives what waits for events of a side from then on. */
  async stall(): Promise<(side: TestProxy, event: LogEventName) => Promise<unknown>> {
    await this.exchanges.received(randomInt(1, MAX_BETWEEN_BYTES));
    const since = new Map(this.sides.map((side) => [side, side.events.length]));
    this.relay.fail('stall');
    return (side, event) => side.event(event, since.get(side));
  }

  /** All bytes are the right ones, and the session is the one that there was. */
  async check(t: ExecutionContext): Promise<void> {
    t.deepEqual(await this.exchanges.finish(), []);
    for (const [{ events, proxy }, before] of this.#before) {
      t.is(proxy.channel('default').history.sessions, before.sessions);
      t.false(events.slice(before.events).some(({ event }) => event === 'session-ended'));
    }
  }
}

test('bytes that come when the other side has given their link up, and goes on with another one, do no harm', async (t) => {
  const pair = await StallingPair.start(t, ['dialler']);
  for (let round = 0; round < ROUNDS; round += 1) {
    const next = await pair.stall();
    await Promise.all(pair.sides.map((side) => next(side, 'session-resumed')));
    pair.relay.goOn();
    await pair.exchanges.received(1);
  }
  await pair.check(t);
});

for (const [who, impatient] of CASES) {
  test(`bytes that come late over a link that ${who} has given up are not lost, and none comes twice`, async (t) => {
    const pair = await StallingPair.start(t, impatient);
    const { relay } = pair;
    for (let round = 0; round < ROUNDS; round += 1) {
      relay.isHolding = true;
      const connections = relay.connections;
      const lateBytes = relay.lateBytes;
      const next = await pair.stall();
      await Promise.all(impatient.map((name) => next(pair[name], 'session-suspended')));
      // The next link, which stands still as well, waits behind the one that is not over for the relay.
      if (impatient.includes('dialler')) await eventually(() => relay.connections > connections);
      relay.goOn();
      await Promise.all(pair.sides.map((side) => next(side, 'session-resumed')));
      t.true(relay.lateBytes > lateBytes);
    }
    await pair.check(t);
  });
}

test('a stall that ends before a side gives the link up is a pause, and nothing else', async (t) => {
  const pair = await StallingPair.start(t, []);
  // Its link stands still for less long, and is given up meanwhile.
  const impatient = await StallingPair.start(t, ['dialler']);
  for (let round = 0; round < ROUNDS; round += 1) {
    await pair.stall();
    const next = await impatient.stall();
    await next(impatient.dialler, 'session-suspended');
    for (const { relay, exchanges } of [pair, impatient]) {
      relay.goOn();
      await exchanges.received(1);
    }
  }
  await pair.check(t);
  await impatient.check(t);
  for (const { proxy } of pair.sides) t.is(proxy.channel('default').totals.resumptions, 0);
});

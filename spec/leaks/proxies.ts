/** Two proxies in this process over a real socket: connections that open and close in every way, changes, and restarts. */
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type Clock, systemClock } from '../../lib/util/clock.js';
import { temporaryFolder } from '../helpers/files.js';
import { heapBytes } from '../helpers/measures.js';
import { incoming, localServer, outgoing, TestProxy } from '../helpers/proxies.js';
import { CuttingRelay } from '../helpers/relays.js';
import { eventually, within } from '../helpers/time.js';
import { assertFlat } from './growth.js';

const WORKERS = 40;

/** Pauses between attempts are shorter than this, timeouts are longer. */
const LONGEST_PAUSE_MS = 7000;

/** Shortens pauses to a hundredth, so that a session that was cut is back at once. */
const hurriedClock: Clock = {
  now: () => systemClock.now(),
  schedule: (delayMs, callback) => systemClock.schedule(delayMs > LONGEST_PAUSE_MS ? delayMs : delayMs / 100, callback),
};

/** Two proxies with a session, and operations to repeat on them. */
async function startLoad(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const at = (name: string) => join(folder, name);
  await localServer(t, (socket) => void socket.pipe(socket), { path: at('target') });
  const a = new TestProxy(t, `unix-listen:${at('a')},streams=20000`, {
    clock: hurriedClock,
    incoming: [`echo:${at('target')}`, `nobody:${at('no-such-target')}`],
  });
  const b = new TestProxy(t, `unix-connect:${at('b')},streams=20000`, {
    clock: hurriedClock,
    outgoing: ['echo', 'nobody', 'unknown'].map((service) => `${service}:${at(service)}`).concat('echo:0'),
  });
  a.proxy.serve('program', (stream) => void stream.on('error', () => undefined).pipe(stream));
  const relay = new CuttingRelay();
  await relay.start(t, at('b'), at('a'));
  for (const side of [a, b]) await side.start();

  const call = async (): Promise<void> => {
    const stream = await b.proxy.connect('program');
    const closed = once(stream, 'close');
    stream.resume().end('a message');
    await within(30_000, 'a call', closed);
  };

  /**
   * Waits until a stream was answered, so that both sides have a session. Earlier streams may be reset: the other side may
   * not have noticed a cut yet, or may begin another attempt, due after 50 ms on the hurried clock.
   */
  const established = async (): Promise<void> => {
    await eventually(() => call().then(() => true), { what: 'a session', intervalMs: 2 });
  };

  const closeOf = (socket: { once(event: 'close', listener: () => void): unknown }) =>
    new Promise<void>((resolve) => void socket.once('close', resolve));

  const connectOne = async (way: number): Promise<void> => {
    if (way === 0) return call();
    const service = way === 1 ? 'nobody' : way === 2 ? 'unknown' : 'echo';
    const socket = net.connect({ path: at(service), allowHalfOpen: true }).on('error', () => undefined);
    const closed = closeOf(socket);
    let received = 0;
    socket.on('data', (bytes: Buffer) => {
      received += bytes.length;
      if (way === 4) socket.destroy();
    });
    socket.once('end', () => socket.end());
    if (way === 3) socket.once('connect', () => socket.destroy());
    else if (way === 4) socket.write('left after an answer');
    else socket.end('a message');
    await within(30_000, `a connection to ${service}`, closed);
    if (way > 4 && received !== 9) throw new Error(`${received} bytes of an echo of 9 came`);
  };

  /** Drops the log, which test helpers keep: here it would look like a leak. */
  const forgetLog = (): void => {
    for (const { events } of [a, b]) events.length = 0;
  };

  await established();
  let made = 0;
  return {
    /** Opens and closes connections in every way. */
    connect: async (count: number): Promise<void> => {
      const last = made + count;
      const work = async (): Promise<void> => {
        while (made < last) {
          made += 1;
          await connectOne(made % 8);
        }
      };
      await Promise.all(Array.from({ length: WORKERS }, work));
      forgetLog();
    },

    /** Adds and removes a forward on each side, and a channel; every tenth with a stream that is reset. */
    change: async (count: number): Promise<void> => {
      const [target, listener] = [...incoming(`changing:${at('target')}`), ...outgoing(`changing:${at('changing')}`)];
      if (target === undefined || listener === undefined) return;
      for (let done = 0; done < count; done += 1) {
        const served = await a.proxy.addForward(target);
        const listening = await b.proxy.addForward(listener);
        await b.proxy.addChannel({ label: 'changing', address: `unix-connect:${at('no-such-channel')}` });
        if (done % 10 === 0) {
          const socket = net.connect(at('changing')).on('error', () => undefined);
          const closed = closeOf(socket);
          socket.write('x');
          await once(socket, 'data');
          await b.proxy.removeForward(listening.id, { isDraining: false });
          await closed;
        } else {
          await b.proxy.removeForward(listening.id);
        }
        await a.proxy.removeForward(served.id);
        await b.proxy.removeChannel('changing');
        forgetLog();
      }
    },

    /** Cuts the channel with open streams, and waits each time for a new session. */
    restart: async (count: number): Promise<void> => {
      for (let done = 0; done < count; done += 1) {
        const open = [await b.proxy.connect('program'), net.connect(at('echo'))];
        for (const stream of open) stream.on('error', () => undefined).write('x');
        await Promise.all(open.map((stream) => once(stream, 'data')));
        const closed = open.map(closeOf);
        relay.cut();
        await within(10_000, 'the end of the streams', Promise.all(closed));
        await established();
        forgetLog();
      }
    },

    /** Opens program streams, all at once, each echoing a byte; closes them, and returns the heap size with them open. */
    openAtOnce: async (count: number): Promise<number> => {
      const streams = await Promise.all(Array.from({ length: count }, () => b.proxy.connect('program')));
      const closed = streams.map((stream) => once(stream, 'close'));
      const echoed = streams.map((stream) => once(stream, 'data'));
      for (const [index, stream] of streams.entries()) stream.write(Buffer.of(index & 0xff));
      for (const [index, answer] of (await Promise.all(echoed)).entries())
        if (!Buffer.of(index & 0xff).equals(answer[0] as Buffer))
          throw new Error(`stream ${index} echoes another byte`);
      const peakBytes = await heapBytes();
      for (const stream of streams) stream.end();
      await Promise.all(closed);
      forgetLog();
      return peakBytes;
    },
  };
}

type Resources = Readonly<Record<string, number>>;

/** The resources held now. Excludes temporary handles that are not sockets. */
function heldResources(): Resources {
  const counts: Record<string, number> = { descriptors: readdirSync('/proc/self/fd').length };
  for (const name of process.getActiveResourcesInfo()) if (name !== 'Immediate') counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** A timer or two are tolerated; one per operation is not. */
const SPARE_TIMERS = 10;

/** Fails the test if more is held than `before`, even after a while; logs the figures. */
async function assertGivenBack(t: ExecutionContext, before: Resources): Promise<void> {
  const surplus = (): string[] =>
    Object.entries(heldResources())
      .filter(([name, count]) => count > (before[name] ?? 0) + (name === 'Timeout' ? SPARE_TIMERS : 0))
      .map(([name, count]) => `${name}: ${count} instead of ${before[name] ?? 0}`);
  await eventually(() => surplus().length === 0, { what: 'the handles' }).catch(() => undefined);
  t.log(`held before: ${JSON.stringify(before)}, after: ${JSON.stringify(heldResources())}`);
  t.deepEqual(surplus(), []);
}

/** The number of each operation, and the growth in bytes per operation that counts as a leak. */
interface ProxyScale {
  readonly connections: number;
  readonly changes: number;
  readonly restarts: number;
  readonly streams: number;
  readonly limitBytes: number;
  readonly restartLimitBytes: number;
}

const WARM_UP = 100;
const WAVES = 3;

export function testProxies(scale: ProxyScale): void {
  const { connections, changes, restarts, streams, limitBytes, restartLimitBytes } = scale;
  for (const [what, name, operations, warmUp, limit] of [
    ['connect', 'connections through two proxies', connections, WARM_UP, limitBytes],
    ['change', 'forwards and channels that are added and removed', changes, WARM_UP, restartLimitBytes],
    ['restart', 'restarts of the session of two proxies', restarts, WARM_UP / 10, restartLimitBytes],
  ] as const) {
    test.serial(`${operations.toLocaleString('en')} ${name} leave nothing behind`, async (t) => {
      const load = await startLoad(t);
      await load[what](warmUp);
      const before = heldResources();
      await assertFlat(t, { name, operations, run: load[what], limitBytes: limit });
      await assertGivenBack(t, before);
    });
  }

  const what = `${streams.toLocaleString('en')} streams`;
  test.serial(`${what} at once, opened and closed, leave nothing behind`, async (t) => {
    const load = await startLoad(t);
    await load.connect(WARM_UP);
    const before = heldResources();
    const emptyBytes: number[] = [await heapBytes()];
    for (let wave = 1; wave <= WAVES; wave += 1) {
      const peakBytes = await load.openAtOnce(streams);
      const each = (peakBytes - (emptyBytes.at(-1) ?? 0)) / streams;
      emptyBytes.push(await heapBytes());
      const heaps = [emptyBytes.at(-2), peakBytes, emptyBytes.at(-1)].map((bytes) => ((bytes ?? 0) / 1e6).toFixed(2));
      t.log(`${what}: heap ${heaps.join(' → ')} MB (none, all, none), ${each.toFixed(0)} bytes each`);
      t.true(each > 0);
    }
    // The first wave grows tables and pools to their size; later ones must not add to them.
    const left = ((emptyBytes.at(-1) ?? 0) - (emptyBytes[1] ?? 0)) / (WAVES - 1) / streams;
    t.log(`${what}: ${left.toFixed(2)} bytes are left of each by a later wave`);
    t.true(left < limitBytes, `${left} bytes`);
    await assertGivenBack(t, before);
  });
}

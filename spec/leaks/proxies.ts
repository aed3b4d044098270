/** Two proxies of this process over a real socket: connections that come and go in every way, changes, and restarts. */
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { type Clock, systemClock } from '../../lib/util/clock.js';
import { temporaryFolder } from '../helpers/files.js';
import { heapBytes } from '../helpers/measures.js';
import { localServer, TestProxy } from '../helpers/proxies.js';
import { CuttingRelay } from '../helpers/relays.js';
import { eventually, within } from '../helpers/time.js';
import { assertFlat } from './growth.js';

const WORKERS = 40;

/** Pauses between attempts are shorter than this, time-outs are longer. */
const LONGEST_PAUSE_MS = 7000;

/** Pauses take a hundredth of their time: a session that was cut is back at once. */
const hurriedClock: Clock = {
  now: () => systemClock.now(),
  schedule: (delayMs, callback) => systemClock.schedule(delayMs > LONGEST_PAUSE_MS ? delayMs : delayMs / 100, callback),
};

export class ProxyLoad {
  readonly #folder: string;
  readonly #relay = new CuttingRelay();
  readonly #a: TestProxy;
  readonly #b: TestProxy;
  #made = 0;

  private constructor(t: ExecutionContext) {
    this.#folder = temporaryFolder(t);
    this.#a = new TestProxy(t, `unix-listen:${this.#path('a')},streams=20000`, {
      clock: hurriedClock,
      incoming: [`echo:${this.#path('target')}`, `nobody:${this.#path('no-such-target')}`],
    });
    this.#b = new TestProxy(t, `unix-connect:${this.#path('b')},streams=20000`, {
      clock: hurriedClock,
      outgoing: ['echo', 'nobody', 'unknown'].map((service) => `${service}:${this.#path(service)}`).concat('echo:0'),
    });
    this.#a.proxy.serve('program', (stream) => {
      stream.on('error', () => undefined);
      stream.pipe(stream);
    });
  }

  static async start(t: ExecutionContext): Promise<ProxyLoad> {
    const load = new ProxyLoad(t);
    await localServer(t, (socket) => void socket.pipe(socket), { path: load.#path('target') });
    await load.#a.start();
    await load.#relay.start(t, load.#path('b'), load.#path('a'));
    await load.#b.start();
    await load.#established();
    return load;
  }

  /**
   * A stream was answered, so both sides are established. Until then what is opened may be reset: the other side may not
   * have seen a cut yet, or begin another attempt, which is due after 50 ms by the hurried clock.
   */
  async #established(): Promise<void> {
    await eventually(() => this.#call('program').then(() => true), { what: 'a session', intervalMs: 2 });
  }

  async connect(count: number): Promise<void> {
    let left = count;
    const work = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        await this.#connectOne();
      }
    };
    await Promise.all(Array.from({ length: WORKERS }, work));
    this.#forgetLog();
  }

  /** Adds and removes a forward on each side, and a channel, `count` times; every tenth with a stream that is reset. */
  async change(count: number): Promise<void> {
    for (let done = 0; done < count; done += 1) {
      const target = parseForwardSpec('incoming', `changing:${this.#path('target')}`);
      const served = await this.#a.proxy.addForward(target);
      const listening = await this.#b.proxy.addForward(
        parseForwardSpec('outgoing', `changing:${this.#path('changing')}`),
      );
      const channel = { label: 'changing', address: `unix-connect:${this.#path('no-such-channel')}` };
      await this.#b.proxy.addChannel(channel);
      if (done % 10 === 0) {
        const socket = net.connect(this.#path('changing')).on('error', () => undefined);
        const closed = once(socket, 'close');
        socket.write('x');
        await once(socket, 'data');
        await this.#b.proxy.removeForward(listening.id, { isDraining: false });
        await closed;
      } else {
        await this.#b.proxy.removeForward(listening.id);
      }
      await this.#a.proxy.removeForward(served.id);
      await this.#b.proxy.removeChannel('changing');
      this.#forgetLog();
    }
  }

  /** Cuts the channel `count` times, with streams open, and waits each time until there is a session again. */
  async restart(count: number): Promise<void> {
    for (let done = 0; done < count; done += 1) {
      const open = [await this.#b.proxy.connect('program'), net.connect(this.#path('echo'))];
      for (const stream of open) stream.on('error', () => undefined).write('x');
      await Promise.all(open.map((stream) => once(stream, 'data')));
      const closed = open.map((stream) => new Promise((resolve) => stream.once('close', resolve)));
      this.#relay.cut();
      await within(10_000, 'the end of the streams', Promise.all(closed));
      await this.#established();
      this.#forgetLog();
    }
  }

  /**
   * Opens `count` streams of programs, all at once, each of which echoes a byte; calls `atPeak`, then closes them, and
   * returns its value.
   */
  async openAtOnce<T>(count: number, atPeak: () => Promise<T>): Promise<T> {
    const { proxy } = this.#b;
    const streams = await Promise.all(Array.from({ length: count }, () => proxy.connect('program')));
    const closed = streams.map((stream) => once(stream, 'close'));
    const echoed = streams.map((stream) => once(stream, 'data'));
    for (const [index, stream] of streams.entries()) stream.write(Buffer.of(index & 0xff));
    for (const [index, answer] of (await Promise.all(echoed)).entries()) {
      if (!Buffer.of(index & 0xff).equals(answer[0] as Buffer)) throw new Error(`stream ${index} echoes another byte`);
    }
    const peak = await atPeak();
    for (const stream of streams) stream.end();
    await Promise.all(closed);
    this.#forgetLog();
    return peak;
  }

  #path(name: string): string {
    return join(this.#folder, name);
  }

  /** The log of a test is kept by its helpers: here it would look like a leak. */
  #forgetLog(): void {
    this.#a.events.length = 0;
    this.#b.events.length = 0;
  }

  async #connectOne(): Promise<void> {
    this.#made += 1;
    const way = this.#made % 8;
    if (way === 0) return this.#call('program');
    const service = way === 1 ? 'nobody' : way === 2 ? 'unknown' : 'echo';
    const socket = net.connect({ path: this.#path(service), allowHalfOpen: true });
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
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
  }

  async #call(service: string): Promise<void> {
    const stream = await this.#b.proxy.connect(service);
    const closed = once(stream, 'close');
    stream.resume().end('a message');
    await within(30_000, 'a call', closed);
  }
}

export type Resources = Readonly<Record<string, number>>;

/** What is held now. Handles that do not belong to sockets and come and go are left out. */
export function heldResources(): Resources {
  const counts: Record<string, number> = { descriptors: readdirSync('/proc/self/fd').length };
  for (const name of process.getActiveResourcesInfo()) {
    if (name !== 'Immediate') counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** Fails the test where more is held than `before`, also after a while; the figures go to the log. */
export async function assertGivenBack(t: ExecutionContext, before: Resources): Promise<void> {
  const surplus = (): string[] =>
    Object.entries(heldResources())
      .filter(([name, count]) => name !== 'Timeout' && count > (before[name] ?? 0))
      .map(([name, count]) => `${name}: ${count} instead of ${before[name] ?? 0}`);
  await eventually(() => surplus().length === 0, { what: 'the handles' }).catch(() => undefined);
  const after = heldResources();
  t.log(`held before: ${JSON.stringify(before)}, after: ${JSON.stringify(after)}`);
  t.deepEqual(surplus(), []);
  // A timer or two may come and go; one for each operation may not.
  t.true((after['Timeout'] ?? 0) <= (before['Timeout'] ?? 0) + SPARE_TIMERS, `${after['Timeout']} timers`);
}

const SPARE_TIMERS = 10;

export interface ProxyScale {
  readonly connections: number;
  readonly changes: number;
  readonly restarts: number;
  readonly limitBytes: number;
  readonly restartLimitBytes: number;
  readonly streams: number;
}

export function testProxies({ connections, changes, restarts, streams, ...limits }: ProxyScale): void {
  const number = (value: number): string => value.toLocaleString('en');

  for (const [what, operations, warmUp, limitBytes] of [
    ['connect', connections, WARM_UP, limits.limitBytes],
    ['change', changes, WARM_UP, limits.restartLimitBytes],
    ['restart', restarts, WARM_UP / 10, limits.restartLimitBytes],
  ] as const) {
    test.serial(`${number(operations)} ${WHAT[what]} leave nothing behind`, async (t) => {
      const load = await ProxyLoad.start(t);
      await load[what](warmUp);
      const before = heldResources();
      await assertFlat(t, { name: WHAT[what], operations, run: (count) => load[what](count), limitBytes });
      await assertGivenBack(t, before);
    });
  }

  test.serial(`${number(streams)} streams at once, opened and closed, leave nothing behind`, async (t) => {
    const load = await ProxyLoad.start(t);
    await load.connect(WARM_UP);
    const before = heldResources();
    const emptyBytes: number[] = [await heapBytes()];
    for (let wave = 1; wave <= WAVES; wave += 1) {
      const peakBytes = await load.openAtOnce(streams, heapBytes);
      emptyBytes.push(await heapBytes());
      const each = (peakBytes - (emptyBytes[wave - 1] ?? 0)) / streams;
      const heaps = [emptyBytes[wave - 1], peakBytes, emptyBytes[wave]].map((bytes) => ((bytes ?? 0) / 1e6).toFixed(2));
      t.log(
        `${number(streams)} streams: heap ${heaps.join(' → ')} MB (none, all, none), ${each.toFixed(0)} bytes each`,
      );
      t.true(each > 0);
    }
    // The first wave makes tables and pools as large as they need to be; the later ones may not add to them.
    const grownBytes = ((emptyBytes.at(-1) ?? 0) - (emptyBytes[1] ?? 0)) / (WAVES - 1);
    t.log(`${number(streams)} streams: ${(grownBytes / streams).toFixed(2)} bytes are left of each by a later wave`);
    t.true(grownBytes / streams < limits.limitBytes, `${grownBytes} bytes are left by a wave`);
    await assertGivenBack(t, before);
  });
}

const WHAT = {
  connect: 'connections through two proxies',
  change: 'forwards and channels that are added and removed',
  restart: 'restarts of the session of two proxies',
};

const WARM_UP = 100;
const WAVES = 3;

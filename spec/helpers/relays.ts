/** A relay between two unix sockets that can be cut after a given number of bytes, wherever in a frame that is. */
import net, { type Socket } from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { bothWays } from './channel-pair.js';
import { temporaryFolder } from './files.js';
import { localServer } from './proxies.js';

export class CuttingRelay {
  /** The number of bytes to carry, both ways together, before everything is closed. */
  leftBytes = Number.POSITIVE_INFINITY;
  onCut: () => void = () => undefined;
  /** Whether existing connections carry nothing more, but stay open. */
  #stalled = new WeakSet<Socket>();
  readonly #sockets = new Set<Socket>();

  /** A relay from `near` to `far`, two paths of its own. */
  static async between(t: ExecutionContext) {
    const folder = temporaryFolder(t);
    const [near, far] = [join(folder, 'near'), join(folder, 'far')];
    const relay = new CuttingRelay();
    await relay.start(t, near, far);
    return { relay, near, far };
  }

  /** Listens at `nearPath`, and connects to `farPath` for each connection. */
  async start(t: ExecutionContext, nearPath: string, farPath: string): Promise<void> {
    t.teardown(() => this.#sockets.forEach((socket) => socket.destroy()));
    const accept = (near: Socket): void => this.#join(near, net.connect({ path: farPath, allowHalfOpen: true }));
    await localServer(t, accept, { path: nearPath });
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroySoon();
  }

  stall(): void {
    for (const socket of this.#sockets) this.#stalled.add(socket.pause());
  }

  #join(near: Socket, far: Socket): void {
    for (const [from, to] of bothWays(near, far)) {
      this.#sockets.add(from);
      from.on('error', () => undefined);
      from.on('data', (chunk: Buffer) => {
        if (this.#stalled.has(from)) return;
        const bytes = Math.min(chunk.length, this.leftBytes);
        this.leftBytes -= bytes;
        if (!to.write(chunk.subarray(0, bytes))) from.pause();
        if (this.leftBytes > 0) return;
        this.cut();
        this.onCut();
      });
      from.on('drain', () => to.resume());
      from.once('end', () => to.destroySoon());
      from.once('close', () => {
        this.#sockets.delete(from);
        to.destroySoon();
      });
    }
  }
}

// A line of a given speed between two unix sockets, with a UART's small buffer at each end.

const BUFFER_BYTES = 4096;
const TURN_MS = 10;

/**
 * Joins two listening sockets, with `bytesPerSecond` each way; ends with the test, or another object with a `teardown`. Its clock
 * counts the time that the line has been at work, in milliseconds: it stops while a busy machine keeps the test's process from
 * running.
 */
export function joinBySlowLine(
  t: Pick<ExecutionContext, 'teardown'>,
  one: string,
  other: string,
  bytesPerSecond: number,
): { timeMs(): number } {
  const [a, b] = [open(t, one), open(t, other)];
  const carryOn = [carry(a, b), carry(b, a)];
  let lastMs = performance.now();
  let timeMs = 0;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    const passedMs = Math.min(nowMs - lastMs, 2 * TURN_MS);
    lastMs = nowMs;
    timeMs += passedMs;
    for (const turn of carryOn) turn(Math.round((passedMs * bytesPerSecond) / 1000));
  }, TURN_MS);
  t.teardown(() => clearInterval(timer));
  return { timeMs: () => timeMs };
}

/** Carries up to `budget` bytes. The rest waits with the sender, except for the line's buffer. */
function carry(from: Socket, to: Socket): (budget: number) => void {
  let buffer = Buffer.alloc(0);
  let isEnded = false;
  // Without an end, if its peer left bytes unread.
  for (const event of ['end', 'close']) from.on(event, () => (isEnded = true));
  from.on('data', (bytes: Buffer) => {
    buffer = Buffer.concat([buffer, bytes]);
    if (buffer.length >= BUFFER_BYTES) from.pause();
  });
  return (budget) => {
    to.write(buffer.subarray(0, budget));
    buffer = buffer.subarray(budget);
    if (buffer.length < BUFFER_BYTES) from.resume();
    if (isEnded && buffer.length === 0) to.end();
  };
}

function open(t: Pick<ExecutionContext, 'teardown'>, path: string): Socket {
  const socket = net.connect({ path, allowHalfOpen: true }).on('error', () => undefined);
  t.teardown(() => socket.destroy());
  return socket;
}

// A TCP connection subject to everything that can go wrong between two machines.

/** Faults of connections carried by a {@link TcpRelay}: an end, a reset, or silence, each way or one way. */
export const TCP_FAULTS = ['fin', 'rst', 'stall', 'stall-forth', 'stall-back'] as const;
export type TcpFault = (typeof TCP_FAULTS)[number];

type Joined = Readonly<Record<'near' | 'far', Socket>>;

/** Carries TCP connections to a port of 127.0.0.1, until a fault is injected. */
export class TcpRelay {
  /** Whether new connections stall, too, until `goOn`. */
  isHolding = false;
  /** How many bytes stalled connections have carried since they continued. */
  lateBytes = 0;
  readonly #joined = new Set<Joined>();
  readonly #standing = new Set<Joined>();

  get connections(): number {
    return this.#joined.size;
  }

  async start(t: ExecutionContext, farPort: number): Promise<number> {
    t.teardown(() => this.#joined.forEach(({ far }) => far.destroy()));
    const accept = (near: Socket): void => {
      const far = net.connect({ host: '127.0.0.1', port: farPort, allowHalfOpen: true });
      const joined = { near, far };
      this.#joined.add(joined);
      for (const [from, to] of bothWays(near, far)) {
        from.on('error', () => undefined);
        if (!this.isHolding) from.pipe(to);
        from.once('close', () => {
          this.#joined.delete(joined);
          // Bytes before the end are carried.
          to.destroySoon();
        });
      }
    };
    return (await localServer(t, accept)).port;
  }

  fail(fault: TcpFault): void {
    for (const joined of this.#joined) {
      const { near, far } = joined;
      if (fault === 'rst') {
        for (const end of [near, far]) end.resetAndDestroy();
      } else if (fault === 'fin') {
        for (const [end, other] of bothWays(near, far)) end.unpipe(other).destroySoon();
      } else {
        this.#standing.add(joined);
        if (fault !== 'stall-back') near.unpipe(far).pause();
        if (fault !== 'stall-forth') far.unpipe(near).pause();
      }
    }
  }

  goOn(): void {
    this.isHolding = false;
    for (const { near, far } of this.#standing)
      for (const socket of [near, far]) socket.on('data', (chunk: Buffer) => void (this.lateBytes += chunk.length));
    this.#standing.clear();
    for (const { near, far } of this.#joined) for (const [from, to] of bothWays(near, far)) from.unpipe(to).pipe(to);
  }
}

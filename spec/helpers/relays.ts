/** A relay between two unix sockets that can be cut after a given number of bytes, wherever in a frame that is. */
import net, { connect, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';
import { localServer } from './proxies.js';

export class CuttingRelay {
  /** The number of bytes to carry, both ways together, before everything is closed. */
  leftBytes = Number.POSITIVE_INFINITY;
  readonly #sockets = new Set<net.Socket>();

  /** Listens at `nearPath`, and connects to `farPath` for each connection. */
  async start(t: ExecutionContext, nearPath: string, farPath: string): Promise<void> {
    t.teardown(() => {
      for (const socket of this.#sockets) socket.destroy();
    });
    const join = (near: net.Socket): void => this.#join(near, net.connect({ path: farPath, allowHalfOpen: true }));
    await localServer(t, join, { path: nearPath });
  }

  /** Closes everything now. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroySoon();
  }

  #join(near: net.Socket, far: net.Socket): void {
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on('error', () => undefined);
      from.on('data', (chunk: Buffer) => {
        const bytes = Math.min(chunk.length, this.leftBytes);
        this.leftBytes -= bytes;
        if (!to.write(chunk.subarray(0, bytes))) from.pause();
        if (this.leftBytes === 0) this.cut();
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
 * Joins two listening sockets, with `bytesPerSecond` each way; ends with the test, or with another object that has a `teardown`. Its clock counts how long the
 * line has been at work, in milliseconds: it stops while a busy machine keeps the test's process from running.
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

/** Carries up to `budget` bytes. The rest waits with the sender, except for what the line's buffer holds. */
function carry(from: Socket, to: Socket): (budget: number) => void {
  let buffer = Buffer.alloc(0);
  from.on('data', (bytes: Buffer) => {
    buffer = Buffer.concat([buffer, bytes]);
    if (buffer.length >= BUFFER_BYTES) from.pause();
  });
  return (budget) => {
    to.write(buffer.subarray(0, budget));
    buffer = buffer.subarray(budget);
    if (buffer.length < BUFFER_BYTES) from.resume();
  };
}

function open(t: Pick<ExecutionContext, 'teardown'>, path: string): Socket {
  const socket = connect(path);
  socket.on('error', () => undefined);
  t.teardown(() => socket.destroy());
  return socket;
}

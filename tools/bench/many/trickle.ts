/** A byte a second on each of many connections, and how long it takes to come back. */
import type net from 'node:net';
import { percentile } from '../load/echo.js';
import type { Outcomes } from '../work/work.js';

/** Starts when constructed; the bytes of all connections are spread evenly over the second. */
export class Trickle {
  readonly #sockets: readonly net.Socket[];
  readonly #timer: NodeJS.Timeout;
  readonly #timesUs: number[] = [];
  #turn = 0;

  /** Owns the connections, which lead to an echo. */
  constructor(sockets: readonly net.Socket[]) {
    this.#sockets = sockets;
    const startedAt = performance.now();
    this.#timer = setInterval(() => {
      // Timers are sometimes late: everything due is sent at once.
      const dueTurns = ((performance.now() - startedAt) / 1000) * sockets.length;
      while (this.#turn < dueTurns) this.#send();
    }, 1);
  }

  /** Stops it, and closes the connections. Returns the times in microseconds. */
  stop(): Outcomes {
    clearInterval(this.#timer);
    for (const socket of this.#sockets) socket.destroy();
    const sorted = this.#timesUs.sort((a, b) => a - b);
    return { 'echo-p50': percentile(sorted, 0.5), 'echo-p99': percentile(sorted, 0.99) };
  }

  #send(): void {
    const socket = this.#sockets[this.#turn % this.#sockets.length];
    this.#turn += 1;
    const sentAt = performance.now();
    socket?.once('data', () => this.#timesUs.push((performance.now() - sentAt) * 1000));
    socket?.write('x');
  }
}

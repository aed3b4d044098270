/** A relay between two unix sockets that can be cut after a given number of bytes, wherever in a frame that is. */
import net from 'node:net';
import type { ExecutionContext } from 'ava';
import { localServer } from './proxies.js';

export class CuttingRelay {
  /** So many bytes are carried, both ways together, before everything is closed. */
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

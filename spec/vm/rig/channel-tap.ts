/** A relay before the channel's socket that reads along: what a process sees that has the host's end of a port. */
import { connect, createServer, type Server, type Socket } from 'node:net';

/**
 * Carries bytes between two unix sockets, both ways, and looks for texts in them. The caller that starts it closes it.
 */
export class ChannelTap {
  /** The number of bytes that were carried so far, both ways together. */
  bytes = 0;
  /** Those texts that were seen. */
  readonly found = new Set<string>();
  readonly #texts: readonly string[];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(texts: readonly string[], farPath: string) {
    this.#texts = texts;
    this.#server = createServer((near) => this.#join(near, connect(farPath)));
  }

  /** Listens at `nearPath`, connects to `farPath` for each connection, and looks for `texts`. */
  static async start(nearPath: string, farPath: string, texts: readonly string[]): Promise<ChannelTap> {
    const tap = new ChannelTap(texts, farPath);
    await new Promise<void>((resolve) => tap.#server.listen(nearPath, resolve));
    return tap;
  }

  /** Stops, and closes what is carried. */
  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(near: Socket, far: Socket): void {
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      const look = this.#look();
      from.on('error', () => undefined);
      from.on('data', look);
      from.pipe(to);
      from.once('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }

  /** Looks at one direction of a connection; a text may lie across pieces of it. */
  #look(): (chunk: Buffer) => void {
    const overlap = Math.max(0, ...this.#texts.map((text) => Buffer.byteLength(text) - 1));
    let last = Buffer.alloc(0);
    return (chunk) => {
      this.bytes += chunk.length;
      const seen = Buffer.concat([last, chunk]);
      for (const text of this.#texts) if (seen.includes(text)) this.found.add(text);
      last = Buffer.from(seen.subarray(Math.max(0, seen.length - overlap)));
    };
  }
}

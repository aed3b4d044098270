/** Connections that stay open between commands: endless bulk, idle ones, and one that is not read. */
import { type Connect, type Connection, closeAll, whileOpen } from './connection.js';
import { type Direction, measureRate, writeBytes } from './rate.js';

/** More than any measurement moves, in bytes. */
const ENDLESS_BYTES = Number.MAX_SAFE_INTEGER;
/** Connections opened at once: below the backlog of every listener, and below yamux's of 256 streams. */
const OPENING_AT_ONCE = 64;

/** Bytes over each of some connections. */
export interface Transfer {
  readonly direction: Direction;
  readonly streams: number;
  readonly bytes: number;
  /** The size of a write, up; default: that of a chunk. */
  readonly writtenBytes?: number;
}

/** The held connections, and the bytes that their bulk has moved. */
export class HeldConnections {
  #connections: Connection[] = [];
  #bulkBytes = 0;
  #failure: Error | undefined;

  /** Bytes that bulk has moved since `startBulk`. Throws when one of its connections has closed. */
  get bulkBytes(): number {
    if (this.#failure !== undefined) throw this.#failure;
    return this.#bulkBytes;
  }

  /** Opens `streams` connections, moves `bytes` over each and keeps them; millions of bytes per second. */
  async moveBytes({ direction, streams, bytes, writtenBytes }: Transfer, connect: Connect): Promise<number> {
    return measureRate(direction, await this.#open(streams, connect), bytes, writtenBytes);
  }

  /** Begins to move bytes over `streams` connections, until `release`. */
  async startBulk(direction: Direction, streams: number, connect: Connect): Promise<void> {
    const connections = await this.#open(streams, connect);
    const count = (bytes: number): void => {
      this.#bulkBytes += bytes;
    };
    for (const connection of connections) {
      if (direction === 'down') connection.onBytes = count;
      connection.stream.write(`${direction} ${ENDLESS_BYTES}\n`);
      if (direction === 'up') writeBytes(connection.stream, ENDLESS_BYTES, count);
    }
  }

  /** Opens `count` connections, waits for an answer on each, and leaves them idle. */
  async hold(count: number, connect: Connect): Promise<void> {
    for (let left = count; left > 0; left -= OPENING_AT_ONCE) {
      const connections = await this.#open(Math.min(left, OPENING_AT_ONCE), connect);
      const answers = connections.map(
        (connection) =>
          new Promise<void>((resolve) => {
            connection.onBytes = () => resolve();
            connection.stream.write('hold\n');
          }),
      );
      await whileOpen(connections, Promise.all(answers));
      this.#keep([]);
    }
  }

  /** Opens a connection on which the far end sends endlessly, without reading it. */
  async holdUnread(connect: Connect): Promise<void> {
    const [connection] = await this.#open(1, connect);
    connection?.stream.pause();
    connection?.stream.write(`down ${ENDLESS_BYTES}\n`);
  }

  /** Closes all of them. */
  async release(): Promise<void> {
    const connections = this.#connections;
    this.#connections = [];
    const closed = connections
      .filter(({ stream }) => !stream.closed)
      .map(({ stream }) => new Promise((resolve) => stream.once('close', resolve)));
    closeAll(connections);
    await Promise.all(closed);
    this.#bulkBytes = 0;
    this.#failure = undefined;
  }

  async #open(count: number, connect: Connect): Promise<Connection[]> {
    const connections = await Promise.all(Array.from({ length: count }, connect));
    this.#keep(connections);
    return connections;
  }

  #keep(connections: readonly Connection[]): void {
    this.#connections.push(...connections);
    for (const connection of this.#connections) {
      connection.onGone = (error) => {
        this.#failure ??= error;
      };
    }
  }
}

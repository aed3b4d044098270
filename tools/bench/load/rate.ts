/** Bulk: bytes in one direction over several connections. */
import type { Writable } from 'node:stream';
import { CHUNK_BYTES, chunkOf } from './chunk.js';
import { type Connection, whileOpen } from './connection.js';

/** `up` is from the load's near end to its far end. */
export type Direction = 'up' | 'down';

/**
 * Moves `bytes` over each of these connections at once, and leaves them open; millions of bytes per second. Up, each write has
 * `writtenBytes`.
 */
export async function measureRate(
  direction: Direction,
  connections: readonly Connection[],
  bytes: number,
  writtenBytes = CHUNK_BYTES,
): Promise<number> {
  const startedAt = performance.now();
  const transfers = connections.map((connection) =>
    direction === 'up' ? up(connection, bytes, writtenBytes) : down(connection, bytes),
  );
  await whileOpen(connections, Promise.all(transfers));
  return (connections.length * bytes) / (performance.now() - startedAt) / 1000;
}

/** Writes `bytes`; calls `onWritten` for each chunk passed to the kernel or to the stream's queue. */
export function writeBytes(
  stream: Writable,
  bytes: number,
  onWritten: (count: number) => void = () => undefined,
  writtenBytes = CHUNK_BYTES,
): void {
  let left = bytes;
  const send = (): void => {
    while (left > 0) {
      const count = Math.min(left, writtenBytes);
      left -= count;
      onWritten(count);
      if (!stream.write(chunkOf(count))) {
        stream.once('drain', send);
        return;
      }
    }
  };
  send();
}

function up(connection: Connection, bytes: number, writtenBytes: number): Promise<void> {
  return new Promise((resolve) => {
    connection.onBytes = () => resolve();
    connection.stream.write(`up ${bytes}\n`);
    writeBytes(connection.stream, bytes, undefined, writtenBytes);
  });
}

function down(connection: Connection, bytes: number): Promise<void> {
  return new Promise((resolve) => {
    let received = 0;
    connection.onBytes = (count) => {
      received += count;
      if (received >= bytes) resolve();
    };
    connection.stream.write(`down ${bytes}\n`);
  });
}

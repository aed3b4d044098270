/** The near end of a measurement: moves bytes over connections, or sends one-byte messages, and takes the time. */
import type { Duplex } from 'node:stream';

/** One connection to the far end. Bytes that come are only counted. */
export interface Connection {
  readonly stream: Duplex;
  onBytes: (count: number) => void;
}

export type Connect = () => Promise<Connection>;

const CHUNK = Buffer.alloc(131_072, 0x5a);

/** Moves `bytes` on each of `streams` connections at once; millions of bytes per second. */
export async function measureRate(
  mode: 'up' | 'down',
  streams: number,
  bytes: number,
  connect: Connect,
): Promise<number> {
  const connections = await Promise.all(Array.from({ length: streams }, connect));
  const startedAt = performance.now();
  await Promise.all(connections.map((connection) => (mode === 'up' ? up(connection, bytes) : down(connection, bytes))));
  const seconds = (performance.now() - startedAt) / 1000;
  for (const { stream } of connections) stream.destroy();
  return (streams * bytes) / seconds / 1e6;
}

async function up(connection: Connection, bytes: number): Promise<void> {
  const { stream } = connection;
  const answered = new Promise<void>((resolve) => {
    connection.onBytes = () => resolve();
  });
  stream.write(`up ${bytes}\n`);
  for (let left = bytes; left > 0; left -= CHUNK.length) {
    if (!stream.write(CHUNK.subarray(0, Math.min(left, CHUNK.length)))) {
      await new Promise((resolve) => stream.once('drain', resolve));
    }
  }
  await answered;
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

/** Sends one byte and waits for it to come back, so many times; the times in microseconds, sorted. */
export async function measureEcho(messages: number, connect: Connect): Promise<number[]> {
  const connection = await connect();
  connection.stream.write('echo\n');
  const times: number[] = [];
  for (let count = 0; count < messages; count += 1) {
    const startedAt = performance.now();
    await new Promise<void>((resolve) => {
      connection.onBytes = () => resolve();
      connection.stream.write('x');
    });
    times.push((performance.now() - startedAt) * 1000);
  }
  connection.stream.destroy();
  return times.sort((a, b) => a - b);
}

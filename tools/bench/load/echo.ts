/** Echoed messages, one after the other on one connection. */
import { chunkOf } from './chunk.js';
import { type Connect, type Connection, closeAll, whileOpen } from './connection.js';

/** Limits: at most this many messages, and none started after this time. */
export interface EchoAmount {
  readonly messages: number;
  readonly forMs?: number;
}

/** Times from writing a message until its last byte is back. */
export interface EchoTimes {
  /** In microseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly perSecond: number;
  readonly messages: number;
}

/** Sends a message of `bytes` and waits until that many bytes are back, repeatedly. */
export async function measureEcho(bytes: number, amount: EchoAmount, connect: Connect): Promise<EchoTimes> {
  const connection = await connect();
  try {
    const startedAt = performance.now();
    const times = await whileOpen([connection], exchange(connection, bytes, amount));
    const seconds = (performance.now() - startedAt) / 1000;
    times.sort((a, b) => a - b);
    return {
      p50: percentile(times, 0.5),
      p99: percentile(times, 0.99),
      p999: percentile(times, 0.999),
      perSecond: times.length / seconds,
      messages: times.length,
    };
  } finally {
    closeAll([connection]);
  }
}

/** The value below which `share` of some sorted figures lie. */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)] ?? Number.NaN;
}

// Callbacks only: a promise for each message would be part of what is measured.
function exchange(
  connection: Connection,
  bytes: number,
  { messages, forMs = Infinity }: EchoAmount,
): Promise<number[]> {
  return new Promise((resolve) => {
    const { stream } = connection;
    const times: number[] = [];
    const deadline = performance.now() + forMs;
    let missing = 0;
    let sentAt = 0;
    const send = (): void => {
      missing = bytes;
      sentAt = performance.now();
      for (let left = bytes; left > 0; ) {
        const piece = chunkOf(left);
        stream.write(piece);
        left -= piece.length;
      }
    };
    connection.onBytes = (count) => {
      missing -= count;
      if (missing > 0) return;
      const now = performance.now();
      times.push((now - sentAt) * 1000);
      if (times.length < messages && now < deadline) send();
      else resolve(times);
    };
    stream.write('echo\n');
    send();
  });
}

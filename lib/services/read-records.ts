/** Reads the records of a built-in service whose messages are short. */
import type { Duplex } from 'node:stream';
import { protocolError } from '../errors.js';
import { RecordReader } from '../util/bytes/records.js';
import { LoopTurns } from '../util/concurrency.js';

interface ReadRecord {
  readonly kind: number;
  readonly payload: Buffer;
}

interface ReadOptions {
  /** The service, for messages. */
  readonly what: string;
  /** The longest payload, in bytes. */
  readonly maxBytes: number;
  /** Default: its own. */
  readonly turns?: LoopTurns;
}

/**
 * Yields the records of a stream: reads no more while one is being processed, nor when a turn is over. Ends with the other
 * side's direction. Rejects with the error of the stream, and with `protocol-error` for a header that announces more than
 * `maxBytes`.
 */
export async function* readRecords(
  stream: Duplex,
  { what, maxBytes, turns = new LoopTurns() }: ReadOptions,
): AsyncGenerator<ReadRecord, void> {
  const found: ReadRecord[] = [];
  const reader = new RecordReader({
    pieces: new Set(),
    onHeader: (kind, bytes) => {
      if (bytes <= maxBytes) return;
      throw protocolError(`${what}: record of kind ${kind} too long: ${bytes} bytes (max ${maxBytes})`);
    },
    onRecord: (kind, payload) => void found.push({ kind, payload }),
    onPiece: () => undefined,
    isFull: () => found.length > 0,
  });
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    for (let at = 0; at < chunk.length; ) {
      at += reader.push(chunk.subarray(at));
      for (const record of found.splice(0)) {
        const turn = turns.nextTurn();
        if (turn !== null) await turn;
        yield record;
      }
    }
  }
}

/** Resolves when there is room for more. */
export function writeRecord(stream: Duplex, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(bytes, (error) => (error instanceof Error ? reject(error) : resolve()));
  });
}

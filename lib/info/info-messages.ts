/** What is said in a stream of the service `info`, as records (docs/info.md). */
import type { Duplex } from 'node:stream';
import { VproxyError } from '../errors.js';
import { decodeJsonRecord, encodeRecord, RecordReader } from '../util/bytes/records.js';
import { LoopTurns } from '../util/concurrency.js';

/** The name of the service. */
export const INFO_SERVICE = 'info';

/** The version of what is asked and answered here. It rises when a field gets another meaning: what is added changes nothing. */
export const INFO_VERSION = 1;

/** The kinds of records. */
export const INFO_KIND = {
  /** Asker: what is to be told, `{"version": 1, "about": "machine"}`, or `"boot"`. */
  ASK: 1,
  /** Asker: what time it is; empty. */
  TIME: 2,
  /** Answer to ASK: `{"version": 1, "machine": {…}}`, or `"boot"`. */
  TOLD: 16,
  /** Answer to TIME: `{"timeMs": N}`, milliseconds since 1970. */
  TIME_TOLD: 17,
} as const;

/** What can be asked for. */
export type InfoSubject = 'machine' | 'boot';

/** The longest payload of a record of an asker, in bytes. */
export const MAX_ASK_BYTES = 256;

/** The longest payload of an answer, in bytes: more than one with every text and list at its bound can have. */
export const MAX_TOLD_BYTES = 524_288;

/** The record that asks. */
export const encodeAsk = (about: InfoSubject): Buffer =>
  encodeRecord(INFO_KIND.ASK, JSON.stringify({ version: INFO_VERSION, about }));

/** What an ASK asks for. Throws `protocol-error`, also for a subject that this version does not know. */
export function decodeAsk(payload: Buffer): InfoSubject {
  const { about } = decodeJsonRecord(payload, 'info: ASK');
  if (about === 'machine' || about === 'boot') return about;
  throw new VproxyError('protocol-error', `info: ASK: this side knows version ${INFO_VERSION} of what can be asked`);
}

/** The record that answers an ASK. */
export const encodeTold = (about: InfoSubject, value: object): Buffer =>
  encodeRecord(INFO_KIND.TOLD, JSON.stringify({ version: INFO_VERSION, [about]: value }));

/** The value of a TOLD, which nobody has looked at. Throws `protocol-error`, also for another version. */
export function decodeTold(payload: Buffer, about: InfoSubject): unknown {
  const { version, [about]: value } = decodeJsonRecord(payload, 'info: the answer');
  if (version === INFO_VERSION) return value;
  const other = typeof version === 'number' && Number.isInteger(version) ? version : 'unknown';
  const what = `info: the peer answers in version ${other}, and this side knows ${INFO_VERSION}`;
  throw new VproxyError('protocol-error', what);
}

/** The record that answers a TIME. */
export const encodeTime = (timeMs: number): Buffer =>
  encodeRecord(INFO_KIND.TIME_TOLD, JSON.stringify({ timeMs: Math.round(timeMs) }));

/** The largest time of day, in milliseconds since 1970: what a `Date` can be. */
const MAX_TIME_MS = 8.64e15;

/** The time of a TIME_TOLD. Throws `protocol-error`. */
export function decodeTime(payload: Buffer): number {
  const { timeMs } = decodeJsonRecord(payload, 'info: the time');
  if (typeof timeMs === 'number' && Math.abs(timeMs) <= MAX_TIME_MS) return timeMs;
  throw new VproxyError('protocol-error', 'info: the time is not valid');
}

/** A record that came. */
interface InfoRecord {
  readonly kind: number;
  readonly payload: Buffer;
}

/**
 * The records of a stream, one after the other: no more is read while one is being worked on, nor when a turn is over. Ends with
 * the other side's direction. Rejects with what the stream fails with, and with `protocol-error` for a payload above `maxBytes`, on its header.
 */
export async function* readRecords(
  stream: Duplex,
  maxBytes: number,
  turns = new LoopTurns(),
): AsyncGenerator<InfoRecord, void> {
  const found: InfoRecord[] = [];
  const reader = new RecordReader({
    pieces: new Set(),
    onHeader: (kind, bytes) => {
      if (bytes <= maxBytes) return;
      throw new VproxyError(
        'protocol-error',
        `info: a record of kind ${kind} has ${bytes} bytes, more than ${maxBytes}`,
      );
    },
    onRecord: (kind, payload) => void found.push({ kind, payload }),
    onPiece: () => undefined,
    isFull: () => found.length > 0,
  });
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    for (let at = 0; at < chunk.length; ) {
      at += reader.push(chunk.subarray(at));
      for (const record of found.splice(0)) {
        await turns.next();
        yield record;
      }
    }
  }
}

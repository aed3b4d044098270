/** The records on a stream of the service `info` (docs/info.md). */
import { protocolError } from '../../errors.js';
import { decodeJsonRecord, encodeRecord } from '../../util/bytes/records.js';

export const INFO_SERVICE = 'info';

/** The version of requests and answers. Increases when the meaning of a field changes, not when fields are added. */
export const INFO_VERSION = 1;

export const INFO_KIND = {
  /** Client: a request, `{"version": 1, "about": "machine"}`, or `"boot"`. */
  ASK: 1,
  /** Client: a request for the time of day; empty. */
  TIME: 2,
  /** Answer to ASK: `{"version": 1, "machine": {…}}`, or `"boot"`. */
  TOLD: 16,
  /** Answer to TIME: `{"timeMs": N}`, milliseconds since 1970. */
  TIME_TOLD: 17,
} as const;

export type InfoSubject = 'machine' | 'boot';

/** The longest payload of a client's record, in bytes. */
export const MAX_ASK_BYTES = 256;

/** The longest payload of an answer, in bytes: more than one with every text and list at its bound. */
export const MAX_TOLD_BYTES = 524_288;

export const encodeAsk = (about: InfoSubject): Buffer =>
  encodeRecord(INFO_KIND.ASK, JSON.stringify({ version: INFO_VERSION, about }));

/** Decodes the subject of an ASK. Throws `protocol-error`, also for an unknown subject. */
export function decodeAsk(payload: Buffer): InfoSubject {
  const { about } = decodeJsonRecord(payload, 'info: ASK');
  if (about === 'machine' || about === 'boot') return about;
  throw protocolError(`info: ASK: unknown subject (supported version: ${INFO_VERSION})`);
}

/** Encodes the answer to an ASK. */
export const encodeTold = (about: InfoSubject, value: object): Buffer =>
  encodeRecord(INFO_KIND.TOLD, JSON.stringify({ version: INFO_VERSION, [about]: value }));

/** Decodes the unvalidated value of a TOLD. Throws `protocol-error`, also for another version. */
export function decodeTold(payload: Buffer, about: InfoSubject): unknown {
  const { version, [about]: value } = decodeJsonRecord(payload, 'info: the answer');
  if (version === INFO_VERSION) return value;
  const other = typeof version === 'number' && Number.isInteger(version) ? version : 'unknown';
  const what = `info: unsupported version of the answer: ${other} (supported: ${INFO_VERSION})`;
  throw protocolError(what);
}

export const encodeTime = (timeMs: number): Buffer =>
  encodeRecord(INFO_KIND.TIME_TOLD, JSON.stringify({ timeMs: Math.round(timeMs) }));

/** The largest time of day, in milliseconds since 1970: the limit of `Date`. */
const MAX_TIME_MS = 8.64e15;

/** Decodes the time of a TIME_TOLD. Throws `protocol-error`. */
export function decodeTime(payload: Buffer): number {
  const { timeMs } = decodeJsonRecord(payload, 'info: the time');
  if (typeof timeMs === 'number' && Math.abs(timeMs) <= MAX_TIME_MS) return timeMs;
  throw protocolError('info: invalid time');
}

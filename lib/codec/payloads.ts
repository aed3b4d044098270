/** The payloads of control frames: bytes ⇄ values. HELLO has a file of its own. */
import { VproxyError } from '../errors.js';
import { formatFrameType } from './header.js';
import { boundedMessage, decodeObject, decodeReason, type Reason } from './json.js';
import { MAX_CONTROL_BYTES, SERVICE_NAME } from './limits.js';

/** What OPEN says. */
export interface OpenRequest {
  readonly service: string;
  /** Where the local socket came from, for logs; a peer's word, not to be trusted. */
  readonly from: string | null;
}

/** What GOAWAY says. */
export interface Goaway extends Reason {
  /** The highest stream id of the receiver that will still be served. */
  readonly last: number;
}

const encodeJson = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

export function encodeOpen({ service, from }: OpenRequest): Buffer {
  return encodeJson(from === null ? { service } : { service, from: from.slice(0, 256) });
}

/** The service is any text here: whether it is a valid name decides how the stream is answered, not the session. */
export function decodeOpen(payload: Uint8Array): OpenRequest {
  const { service, from } = decodeObject(payload, 'OPEN');
  if (typeof service !== 'string') throw new VproxyError('protocol-error', 'OPEN has no service');
  if (from !== undefined && from !== null && typeof from !== 'string') {
    throw new VproxyError('protocol-error', 'the field from of OPEN is not a text');
  }
  return { service, from: from ?? null };
}

export function encodeReason({ code, message }: Reason): Buffer {
  return encodeJson({ code, message: boundedMessage(message) });
}

/** The reason in a REFUSE, STOP or RESET; the message is escaped and cut for showing it. */
export function decodeReasonPayload(payload: Uint8Array, what: string): Reason {
  return decodeReason(decodeObject(payload, what), what);
}

export function encodeGoaway({ code, message, last }: Goaway): Buffer {
  return encodeJson({ code, message: boundedMessage(message), last });
}

export function decodeGoaway(payload: Uint8Array): Goaway {
  const object = decodeObject(payload, 'GOAWAY');
  const { last } = object;
  if (!isUnsigned32(last)) throw new VproxyError('protocol-error', 'the field last of GOAWAY is not a stream id');
  return { ...decodeReason(object, 'GOAWAY'), last };
}

/** One list of services as the payloads of one or more SERVICES frames; the last has the time of day, where there is one (R-SERVICES-1). */
export function encodeServices(services: readonly string[], timeMs: number | null = null): Buffer[] {
  const payloads: Buffer[] = [];
  let batch: string[] = [];
  let batchBytes = 0;
  for (const service of services) {
    // A name is ASCII of at most 64 characters; quotes, comma and the frame's other fields take the rest.
    if (batchBytes + service.length + 3 > MAX_CONTROL_BYTES - 64) {
      payloads.push(encodeJson({ services: batch, more: true }));
      batch = [];
      batchBytes = 0;
    }
    batch.push(service);
    batchBytes += service.length + 3;
  }
  payloads.push(encodeJson(timeMs === null ? { services: batch } : { services: batch, time: Math.round(timeMs) }));
  return payloads;
}

/** What SERVICES says. */
export interface ServiceList {
  readonly services: string[];
  readonly more: boolean;
  /** The sender's time of day in milliseconds since 1970, or null. */
  readonly timeMs: number | null;
}

export function decodeServices(payload: Uint8Array): ServiceList {
  const { services, more = false, time = null } = decodeObject(payload, 'SERVICES');
  const isName = (name: unknown): name is string => typeof name === 'string' && SERVICE_NAME.test(name);
  if (!Array.isArray(services) || !services.every(isName)) {
    throw new VproxyError('protocol-error', 'SERVICES is not a list of names of services');
  }
  if (typeof more !== 'boolean') throw new VproxyError('protocol-error', 'the field more of SERVICES is not a boolean');
  if (time !== null && !(Number.isSafeInteger(time) && (time as number) >= 0)) {
    throw new VproxyError('protocol-error', 'the field time of SERVICES is not a time');
  }
  return { services, more, timeMs: time as number | null };
}

/** The payload of a frame that has a fixed size: ACCEPT and FIN are empty, PING and PONG have 8 bytes. Throws `protocol-error`. */
export function requireLength(type: number, payload: Buffer, bytes: number): Buffer {
  if (payload.length === bytes) return payload;
  throw new VproxyError('protocol-error', `${formatFrameType(type)} of ${payload.length} bytes instead of ${bytes}`);
}

/** Writes a total of bytes (u64) at `offset`. Totals above 2^53−1 cannot come up: 2^53 bytes are nine petabytes. */
export function writeTotal(buffer: Buffer, offset: number, totalBytes: number): void {
  buffer.writeUInt32BE(Math.floor(totalBytes / 2 ** 32), offset);
  buffer.writeUInt32BE(totalBytes % 2 ** 32, offset + 4);
}

/** A total of bytes (u64) at the start of `payload`; a value above 2^53−1 counts as 2^53−1. */
export function readTotal(payload: Buffer): number {
  const total = payload.readUInt32BE(0) * 2 ** 32 + payload.readUInt32BE(4);
  return Math.min(total, Number.MAX_SAFE_INTEGER);
}

/** The payload of a CREDIT or an ACK is such a total. */
export const TOTAL_BYTES = 8;

/** What a CREDIT or an ACK says, in bytes. Throws `protocol-error`. */
export const decodeTotal = (type: number, payload: Buffer): number =>
  readTotal(requireLength(type, payload, TOTAL_BYTES));

function isUnsigned32(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffff_ffff;
}

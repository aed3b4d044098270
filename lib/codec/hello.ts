/** HELLO, by which a side introduces itself in the handshake, and the magic before it (R-OPEN-2 to R-OPEN-5). */

import { protocolError, VproxyError } from '../errors.js';
import { crc32 } from './crc32.js';
import { encodeFrame, FRAME_TYPE, headerCheck, type Integrity, isIntegrity } from './header.js';
import { decodeObject, isObject } from './json.js';
import { HEADER_BYTES, LIMIT_RANGES, type Limits, MAX_CONTROL_BYTES } from './limits.js';
import { Stranger } from './stranger.js';

/** Precedes every HELLO. CR LF, XON XOFF and the high bytes show a terminal line that is not raw. */
export const MAGIC = Buffer.from('ff00565052' + '4f58590d0a1a0a111300ff', 'hex');

/** The proof that a side requires. */
interface AuthDemand {
  /** `psk-sha256`, or a method that this version does not know. */
  readonly method: string;
  /** The ids of the side's keys, preferred first. */
  readonly keys: readonly string[];
}

export interface Hello {
  readonly version: { readonly min: number; readonly max: number };
  /** 32 lowercase hex digits, fresh for every attempt. */
  readonly nonce: string;
  /** The nonce of the peer's newest HELLO, or null. */
  readonly ack: string | null;
  /** 32 lowercase hex digits, one for the life of the process; empty if the peer sent none. */
  readonly instance: string;
  readonly agent: string;
  /** The operator's name for this side, or null. */
  readonly name: string | null;
  readonly limits: Limits;
  /** The level that this side asks for (R-INTEGRITY-2). */
  readonly integrity: Integrity;
  /** The proof that this side requires and can give, or null (R-AUTH-2). */
  readonly auth: AuthDemand | null;
  readonly tls: boolean;
  readonly features: readonly string[];
}

const HEX_32 = /^[0-9a-f]{32}$/;

/** The only method of authentication so far (R-AUTH-2). */
export const PSK_METHOD = 'psk-sha256';

const KEY_ID = /^[0-9a-f]{8}$/;

/** Magic and HELLO frame, ready to be written. */
export function encodeHello(hello: Hello): Buffer {
  return Buffer.concat([MAGIC, encodeFrame(FRAME_TYPE.HELLO, 0, encodeHelloPayload(hello), 0)]);
}

/** The payload of a HELLO. Agent and name are cut to make it fit its limit. */
export function encodeHelloPayload(hello: Hello): Buffer {
  const bounded = { ...hello, agent: hello.agent.slice(0, 256), name: hello.name?.slice(0, 256) ?? null };
  const payload = Buffer.from(JSON.stringify(bounded));
  if (payload.length > MAX_CONTROL_BYTES) {
    throw new VproxyError('internal', `HELLO too long: ${payload.length} bytes (max ${MAX_CONTROL_BYTES})`);
  }
  return payload;
}

/** The HELLO in a payload. Throws `protocol-error` if it is not valid (R-OPEN-5). */
export function decodeHello(payload: Uint8Array): Hello {
  const object = decodeObject(payload, 'HELLO');
  const { version, nonce, ack, limits, integrity } = object;
  if (
    !isObject(version) ||
    !isVersion(version['min']) ||
    !isVersion(version['max']) ||
    version['min'] > version['max']
  ) {
    throw invalid('version');
  }
  if (typeof nonce !== 'string' || !HEX_32.test(nonce)) throw invalid('nonce');
  if (ack !== null && (typeof ack !== 'string' || !HEX_32.test(ack))) throw invalid('ack');
  if (!isIntegrity(integrity)) throw invalid('integrity');
  return {
    version: { min: version['min'], max: version['max'] },
    nonce,
    ack,
    limits: decodeLimits(limits),
    integrity,
    instance: optional(object, 'instance', '', (value) => typeof value === 'string' && HEX_32.test(value)),
    agent: optional(object, 'agent', '', (value) => typeof value === 'string'),
    name: optional<string | null>(object, 'name', null, (value) => typeof value === 'string'),
    auth: decodeAuth(object),
    tls: optional(object, 'tls', false, (value) => typeof value === 'boolean'),
    features: optional<string[]>(object, 'features', [], isTextList),
  };
}

/** A demand with an unknown method gets no keys: it cannot be satisfied. */
function decodeAuth(object: Record<string, unknown>): AuthDemand | null {
  const auth = optional<Record<string, unknown> | null>(object, 'auth', null, isObject);
  if (auth === null) return null;
  const { method, keys } = auth;
  if (method !== PSK_METHOD) return { method: typeof method === 'string' ? method : '', keys: [] };
  if (!Array.isArray(keys) || !keys.every((id) => typeof id === 'string' && KEY_ID.test(id))) throw invalid('auth');
  return { method, keys };
}

function decodeLimits(value: unknown): Limits {
  if (!isObject(value)) throw invalid('limits');
  const limit = (key: keyof Limits): number => {
    const [min, max] = LIMIT_RANGES[key];
    const number = value[key];
    if (!Number.isInteger(number) || (number as number) < min || (number as number) > max)
      throw invalid(`limits.${key}`);
    return number as number;
  };
  return {
    frame: limit('frame'),
    streamCredit: limit('streamCredit'),
    inFlight: limit('inFlight'),
    streams: limit('streams'),
    opens: limit('opens'),
  };
}

/** A field that may be absent or null; `isValid` judges any other value. */
function optional<T>(object: Record<string, unknown>, key: string, absent: T, isValid: (value: unknown) => boolean): T {
  const value = object[key];
  if (value === undefined || value === null) return absent;
  if (!isValid(value)) throw invalid(key);
  return value as T;
}

const isVersion = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0;
const isTextList = (value: unknown): boolean => Array.isArray(value) && value.every((item) => typeof item === 'string');
const invalid = (field: string): VproxyError => protocolError(`HELLO: "${field}" is missing or invalid`);

const NOTHING = Buffer.alloc(0);

/** The first place from `from` on where a magic may begin; else the end. */
function beginningOfMagic(bytes: Buffer, from: number): number {
  const at = bytes.indexOf(0xff, from);
  return at === -1 ? bytes.length : at;
}

/**
 * Finds a HELLO among arbitrary bytes, such as those of an earlier session: skips bytes up to a magic that is followed
 * by a valid HELLO (R-OPEN-3, R-OPEN-5). Keeps at most one incomplete HELLO in memory.
 */
export class HelloScanner {
  /** What the skipped bytes seem to be. */
  readonly stranger = new Stranger();
  #carry: Buffer = NOTHING;
  #skippedBytes = 0;

  /** The bytes skipped so far; those of incomplete candidates do not count yet. */
  get skippedBytes(): number {
    return this.#skippedBytes;
  }

  /**
   * Scans more bytes. Returns the HELLO found with its payload and the bytes after it, as views that may lie in
   * `chunk`; or null, and then no reference to `chunk` remains.
   */
  scan(chunk: Buffer): { readonly hello: Hello; readonly payload: Buffer; readonly rest: Buffer } | null {
    const bytes = this.#carry.length === 0 ? chunk : Buffer.concat([this.#carry, chunk]);
    let from = 0;
    for (;;) {
      const at = bytes.indexOf(MAGIC, from);
      if (at === -1) return this.#keep(bytes, beginningOfMagic(bytes, Math.max(from, bytes.length - MAGIC.length + 1)));
      const found = readHello(bytes, at + MAGIC.length);
      if (found === 'incomplete') return this.#keep(bytes, at);
      if (found !== 'invalid') {
        this.#skip(bytes.subarray(0, at));
        this.#carry = NOTHING;
        const { hello, payload, end } = found;
        return { hello, payload, rest: bytes.subarray(end) };
      }
      this.stranger.noteMagic();
      // After a failed candidate the search resumes at the second byte of its magic.
      from = at + 1;
    }
  }

  #skip(bytes: Buffer): void {
    this.#skippedBytes += bytes.length;
    this.stranger.note(bytes);
  }

  #keep(bytes: Buffer, from: number): null {
    this.#skip(bytes.subarray(0, from));
    // Usually nothing is left of the zeros of a flush; it must not cost memory then.
    this.#carry = from === bytes.length ? NOTHING : Buffer.from(bytes.subarray(from));
    return null;
  }
}

/** Reads the HELLO frame at `offset`. */
export function readHello(
  bytes: Buffer,
  offset: number,
): { readonly hello: Hello; readonly payload: Buffer; readonly end: number } | 'incomplete' | 'invalid' {
  if (bytes.length < offset + HEADER_BYTES) return 'incomplete';
  const length = helloLength(bytes, offset);
  if (length === null) return 'invalid';
  const start = offset + HEADER_BYTES;
  const end = start + length;
  // FF never occurs in UTF-8, and each magic begins with it: so no byte is examined for more than one candidate, and
  // headers nested in each other's payloads cost no more than other bytes.
  const firstFf = bytes.indexOf(0xff, start);
  if (firstFf !== -1 && firstFf < end) return 'invalid';
  if (bytes.length < end) return 'incomplete';
  const payload = bytes.subarray(start, end);
  if (crc32(payload) !== bytes.readUInt32BE(offset + 12)) return 'invalid';
  try {
    return { hello: decodeHello(payload), payload, end };
  } catch (error) {
    if (error instanceof VproxyError) return 'invalid';
    throw error;
  }
}

/** The payload length in a valid HELLO header at `offset`, else null. */
export function helloLength(bytes: Buffer, offset: number): number | null {
  const isHello =
    bytes[offset] === FRAME_TYPE.HELLO &&
    bytes[offset + 1] === 0 &&
    bytes.readUInt16BE(offset + 2) === headerCheck(bytes, offset, 0) &&
    bytes.readUInt32BE(offset + 4) === 0;
  const length = bytes.readUInt32BE(offset + 8);
  return isHello && length <= MAX_CONTROL_BYTES ? length : null;
}

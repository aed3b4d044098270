/** HELLO: what a side says of itself while a session is being opened, and the magic before it (R-OPEN-2 to R-OPEN-5). */
import { VproxyError } from '../errors.js';
import { FRAME_TYPE } from './frame-type.js';
import { encodeFrame } from './header.js';
import { decodeObject, isObject } from './json.js';
import { LIMIT_RANGES, type Limits, MAX_CONTROL_BYTES } from './limits.js';

/** Stands before every HELLO. CR LF, XON XOFF and the high bytes show a terminal line that is not raw. */
export const MAGIC = Buffer.from('ff00565052' + '4f58590d0a1a0a111300ff', 'hex');

/** A side's HELLO. */
export interface Hello {
  readonly version: { readonly min: number; readonly max: number };
  /** 32 lowercase hex digits, fresh for every attempt. */
  readonly nonce: string;
  /** The nonce of the peer's newest HELLO, or null. */
  readonly ack: string | null;
  /** 32 lowercase hex digits, one for the life of the process; empty where the peer sent none. */
  readonly instance: string;
  readonly agent: string;
  /** The operator's name for this side, or null. */
  readonly name: string | null;
  readonly limits: Limits;
  readonly integrity: boolean;
  /** Whether this side demands authentication. Its form belongs to a later version of this code. */
  readonly auth: unknown;
  readonly tls: boolean;
  readonly features: readonly string[];
}

const HEX_32 = /^[0-9a-f]{32}$/;

/** Magic and HELLO frame, ready to be written. Agent and name are cut so that it fits its limit. */
export function encodeHello(hello: Hello): Buffer {
  const bounded = { ...hello, agent: hello.agent.slice(0, 256), name: hello.name?.slice(0, 256) ?? null };
  const payload = Buffer.from(JSON.stringify(bounded));
  if (payload.length > MAX_CONTROL_BYTES) {
    throw new VproxyError('internal', `HELLO of ${payload.length} bytes exceeds ${MAX_CONTROL_BYTES}`);
  }
  return Buffer.concat([MAGIC, encodeFrame(FRAME_TYPE.HELLO, 0, payload, 0, true)]);
}

/** The HELLO in a payload. Throws `protocol-error` where it is not valid (R-OPEN-5). */
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
  if (typeof integrity !== 'boolean') throw invalid('integrity');
  return {
    version: { min: version['min'], max: version['max'] },
    nonce,
    ack,
    limits: decodeLimits(limits),
    integrity,
    instance: optional(object, 'instance', '', (value) => typeof value === 'string' && HEX_32.test(value)),
    agent: optional(object, 'agent', '', (value) => typeof value === 'string'),
    name: optional<string | null>(object, 'name', null, (value) => typeof value === 'string'),
    auth: optional<unknown>(object, 'auth', null, isObject),
    tls: optional(object, 'tls', false, (value) => typeof value === 'boolean'),
    features: optional<string[]>(object, 'features', [], isTextList),
  };
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
const invalid = (field: string): VproxyError =>
  new VproxyError('protocol-error', `the field ${field} of HELLO is missing or not valid`);

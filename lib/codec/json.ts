/** JSON payloads: strict UTF-8, an object, and fields of the specified form (R-FRAME-7). */
import { protocolError, VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import { MAX_MESSAGE_BYTES } from './limits.js';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The object in a payload. Throws `protocol-error`, which names the frame, if it is not one. */
export function decodeObject(payload: Uint8Array, what: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(payload));
  } catch (cause) {
    throw protocolError(`${what}: payload is not valid UTF-8 JSON`, { cause });
  }
  if (!isObject(value)) throw protocolError(`${what}: payload is not a JSON object`);
  return value;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A reason as sent to the peer: a code and a human-readable message. */
export interface Reason {
  readonly code: string;
  readonly message: string;
}

export const toReason = (error: VproxyError | null): Reason | null =>
  error === null ? null : { code: error.code, message: error.message };

export const fromReason = (reason: Reason | null): VproxyError | null =>
  reason === null ? null : new VproxyError(reason.code, reason.message);

const CODE = /^[a-z0-9-]{1,64}$/;

/** The code and message of a REFUSE, STOP, RESET or GOAWAY. */
export function decodeReason(object: Record<string, unknown>, what: string): Reason {
  const { code, message } = object;
  if (typeof code !== 'string' || !CODE.test(code)) throw protocolError(`${what}: "code" is missing or invalid`);
  if (typeof message !== 'string') throw protocolError(`${what}: "message" is missing or not a string`);
  return { code, message: escapeText(message, MAX_MESSAGE_BYTES) };
}

/** A message cut to the length that a frame may carry, at a character boundary. */
export function boundedMessage(message: string): string {
  let cut = message.slice(0, MAX_MESSAGE_BYTES);
  while (Buffer.byteLength(cut) > MAX_MESSAGE_BYTES) cut = cut.slice(0, -1);
  return cut;
}

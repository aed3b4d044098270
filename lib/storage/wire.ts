/** The messages between wrapper, broker and emulator: requests, replies and failures, as JSON (docs/storage.md). */
import { isUtf8 } from 'node:buffer';
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';

/** The longest request, in bytes without its line feed. */
export const MAX_REQUEST_BYTES = 1024 * 1024;

/** The longest reply, in bytes without its line feed. */
export const MAX_REPLY_BYTES = 64 * 1024 * 1024;

const OPENING_BRACE = 0x7b;

/** A request of a wrapper to an emulator. */
export interface StorageRequest {
  /** The command line; `argv[0]` is the path by which the utility was called. */
  readonly argv: readonly string[];
  /** The name of the virtual machine, if its vproxy has one. */
  readonly vm?: string;
}

/** An emulator's answer to a request. Strings are sent as UTF-8. Default: no output, status 0. */
export interface StorageResult {
  /** Standard output. */
  readonly stdout?: string | Uint8Array;
  /** Standard error. */
  readonly stderr?: string | Uint8Array;
  /** The exit status, 0 to 255. */
  readonly status?: number;
}

/** A received reply, as exact bytes. */
export interface StorageReply {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly status: number;
}

/** Encodes a request as one line. Everything but ASCII is escaped, so that no emulator's locale can spoil it. */
export function encodeRequest({ argv, vm }: StorageRequest): Buffer {
  return encodeAscii(vm === undefined ? { argv } : { argv, vm });
}

/**
 * Re-encodes a request as one line, with its field `vm` replaced and the others unchanged. Nothing is passed on that
 * another parser could read differently. Throws `storage-bad-request` for anything but a JSON object.
 */
export function labelRequest(message: Buffer, vm: string): Buffer {
  const fields = parseObject(message, badRequest);
  try {
    return encodeAscii({ ...fields, vm });
  } catch (cause) {
    // JSON.stringify recurses as deep as the value, JSON.parse does not.
    throw new VproxyError('storage-bad-request', 'storage request: nested too deeply', { cause });
  }
}

/** Decodes a request. Throws `storage-bad-request`. */
export function decodeRequest(message: Buffer): StorageRequest {
  const { argv, vm } = parseObject(message, badRequest);
  if (!Array.isArray(argv) || argv.length === 0) throw badRequest('"argv" must be a non-empty list of strings');
  if (!argv.every((argument) => typeof argument === 'string')) throw badRequest('"argv" must contain only strings');
  if (vm !== undefined && typeof vm !== 'string') throw badRequest('"vm" must be a string');
  return vm === undefined ? { argv } : { argv, vm };
}

/** Encodes a reply as one line. Bytes that are not UTF-8 go as base64 beside their nearest text. Throws `storage-bad-reply`. */
export function encodeReply(result: StorageResult): Buffer {
  const { stdout = '', stderr = '', status = 0 } = result;
  if (!isStatus(status)) throw badReply(`exit status ${String(status)}: must be from 0 to 255`);
  const fields = { ...encodeOutput('stdout', stdout), ...encodeOutput('stderr', stderr), status };
  const line = Buffer.from(`${JSON.stringify(fields)}\n`);
  if (line.length > MAX_REPLY_BYTES + 1) throw badReply(`too long: ${line.length} bytes (max ${MAX_REPLY_BYTES})`);
  return line;
}

/** Decodes a reply. Throws `storage-bad-reply`. */
export function decodeReply(message: Buffer): StorageReply {
  return replyOf(parseObject(message, badReply));
}

/** Encodes a broker's failure as one line: `{"error":{"code":…,"message":…}}`. */
export function encodeFailure(error: VproxyError): Buffer {
  return Buffer.from(`${JSON.stringify({ error: { code: error.code, message: error.message } })}\n`);
}

/** Decodes a broker's answer: returns the emulator's reply; throws the broker's failure, or `storage-bad-reply`. */
export function decodeAnswer(message: Buffer): StorageReply {
  const answer = parseObject(message, badReply);
  const { error, status } = answer;
  // A reply has a status and may have any other field; a failure of the broker has no status.
  if (status === undefined && isObject(error)) {
    const { code, message: text } = error;
    if (typeof code === 'string' && typeof text === 'string') throw new VproxyError(code, text);
  }
  return replyOf(answer);
}

/** Whether a value is a valid exit status of a process. */
export function isStatus(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 255;
}

/** Decodes standard, padded base64; undefined if invalid. */
export function decodeBase64(text: string): Buffer | undefined {
  return text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text) ? Buffer.from(text, 'base64') : undefined;
}

function encodeAscii(fields: object): Buffer {
  const json = JSON.stringify(fields);
  const ascii = json.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return Buffer.from(`${ascii}\n`, 'latin1');
}

function badRequest(what: string): VproxyError {
  return new VproxyError('storage-bad-request', `storage request: ${what}`);
}

function badReply(what: string): VproxyError {
  return new VproxyError('storage-bad-reply', `storage reply: ${what}`);
}

function replyOf(fields: Record<string, unknown>): StorageReply {
  const { status } = fields;
  if (!isStatus(status)) throw badReply('"status" must be an integer from 0 to 255');
  return { stdout: decodeOutput(fields, 'stdout'), stderr: decodeOutput(fields, 'stderr'), status };
}

function encodeOutput(name: 'stdout' | 'stderr', output: string | Uint8Array): Record<string, string> {
  if (typeof output === 'string') return { [name]: output };
  const bytes = Buffer.from(output.buffer, output.byteOffset, output.byteLength);
  const text = bytes.toString('utf8');
  return isUtf8(bytes) ? { [name]: text } : { [name]: text, [`${name}Base64`]: bytes.toString('base64') };
}

function decodeOutput(fields: Record<string, unknown>, name: 'stdout' | 'stderr'): Buffer {
  const base64 = fields[`${name}Base64`];
  if (base64 !== undefined) {
    const bytes = typeof base64 === 'string' ? decodeBase64(base64) : undefined;
    if (bytes === undefined) throw badReply(`"${name}Base64" is not valid base64`);
    return bytes;
  }
  const text = fields[name];
  if (typeof text !== 'string') throw badReply(`"${name}" must be a string`);
  return Buffer.from(text, 'utf8');
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseObject(message: Buffer, bad: (what: string) => VproxyError): Record<string, unknown> {
  let value: unknown;
  try {
    // Do not even parse other values: the scanner limits the values only of objects.
    if (message[0] === OPENING_BRACE) value = JSON.parse(message.toString('utf8'));
  } catch {
    // The message of JSON.parse quotes the input; it is shown truncated and escaped below instead.
  }
  if (isObject(value)) return value;
  throw bad(`not a JSON object: "${escapeText(message.toString('utf8', 0, 400), 100)}"`);
}

/** What travels between wrapper, broker and emulator: requests, replies and failures, as JSON (docs/storage.md). */
import { isUtf8 } from 'node:buffer';
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';

/** The longest request, in bytes without its line feed. */
export const MAX_REQUEST_BYTES = 1024 * 1024;

/** The longest reply, in bytes without its line feed. */
export const MAX_REPLY_BYTES = 64 * 1024 * 1024;

const OPENING_BRACE = 0x7b;

/** What a wrapper asks an emulator. */
export interface StorageRequest {
  /** The command line; `argv[0]` is the path that the utility was called by. */
  readonly argv: readonly string[];
  /** The name of the virtual machine, where its vproxy was given one. */
  readonly vm?: string;
}

/** What an emulator gives for a request. A text is sent as UTF-8. Default: no output, status 0. */
export interface StorageResult {
  /** Standard output. */
  readonly stdout?: string | Uint8Array;
  /** Standard error. */
  readonly stderr?: string | Uint8Array;
  /** The exit status, 0 to 255. */
  readonly status?: number;
}

/** A reply as it was received: exact bytes. */
export interface StorageReply {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly status: number;
}

/** A request as one line. Everything but ASCII is escaped, so that no emulator's locale can spoil it. */
export function encodeRequest({ argv, vm }: StorageRequest): Buffer {
  return encodeAscii(vm === undefined ? { argv } : { argv, vm });
}

/**
 * The request in a message as one line, with `vm` as its field of that name; its other fields are as they were. Nothing
 * is passed on that another parser could read differently. Throws `storage-bad-request` for what is not a JSON object.
 */
export function labelRequest(message: Buffer, vm: string): Buffer {
  const fields = parseObject(message, badRequest);
  try {
    return encodeAscii({ ...fields, vm });
  } catch (cause) {
    // Writing recurses as deep as the value, reading does not.
    throw new VproxyError('storage-bad-request', 'the storage request has too many objects in one another', { cause });
  }
}

/** The request in a message. Throws `storage-bad-request`. */
export function decodeRequest(message: Buffer): StorageRequest {
  const { argv, vm } = parseObject(message, badRequest);
  if (!Array.isArray(argv) || argv.length === 0) throw badRequest('has no "argv", a list of at least one text');
  if (!argv.every((argument) => typeof argument === 'string'))
    throw badRequest('has something in "argv" that is no text');
  if (vm !== undefined && typeof vm !== 'string') throw badRequest('has a "vm" that is no text');
  return vm === undefined ? { argv } : { argv, vm };
}

/** A reply as one line. Bytes that are not UTF-8 go as base64 beside their nearest text. Throws `storage-bad-reply`. */
export function encodeReply(result: StorageResult): Buffer {
  const { stdout = '', stderr = '', status = 0 } = result;
  if (!isStatus(status)) throw badReply(`has the exit status ${String(status)}, which is not from 0 to 255`);
  const fields = { ...encodeOutput('stdout', stdout), ...encodeOutput('stderr', stderr), status };
  const line = Buffer.from(`${JSON.stringify(fields)}\n`);
  if (line.length > MAX_REPLY_BYTES + 1) throw badReply(`of ${line.length} bytes exceeds ${MAX_REPLY_BYTES}`);
  return line;
}

/** The reply in a message. Throws `storage-bad-reply`. */
export function decodeReply(message: Buffer): StorageReply {
  return replyOf(parseObject(message, badReply));
}

/** A broker's failure as one line: `{"error":{"code":…,"message":…}}`. */
export function encodeFailure(error: VproxyError): Buffer {
  return Buffer.from(`${JSON.stringify({ error: { code: error.code, message: error.message } })}\n`);
}

/** What a broker answered: the emulator's reply, else the failure that it names, thrown, or `storage-bad-reply`. */
export function decodeAnswer(message: Buffer): StorageReply {
  const answer = parseObject(message, badReply);
  const { error, status } = answer;
  // A reply has a status, and may have any other field; only the broker's failure has no status.
  if (status === undefined && isObject(error)) {
    const { code, message: text } = error;
    if (typeof code === 'string' && typeof text === 'string') throw new VproxyError(code, text);
  }
  return replyOf(answer);
}

/** Whether a value is an exit status that a process can have. */
export function isStatus(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 255;
}

/** The bytes of standard base64 with its padding, or undefined. */
export function decodeBase64(text: string): Buffer | undefined {
  return text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text) ? Buffer.from(text, 'base64') : undefined;
}

function encodeAscii(fields: object): Buffer {
  const json = JSON.stringify(fields);
  const ascii = json.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return Buffer.from(`${ascii}\n`, 'latin1');
}

function badRequest(what: string): VproxyError {
  return new VproxyError('storage-bad-request', `the storage request ${what}`);
}

function badReply(what: string): VproxyError {
  return new VproxyError('storage-bad-reply', `the reply to the storage call ${what}`);
}

function replyOf(fields: Record<string, unknown>): StorageReply {
  const { status } = fields;
  if (!isStatus(status)) throw badReply('has no "status", an integer from 0 to 255');
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
    if (bytes === undefined) throw badReply(`has a "${name}Base64" that is not base64`);
    return bytes;
  }
  const text = fields[name];
  if (typeof text !== 'string') throw badReply(`has no "${name}", a text`);
  return Buffer.from(text, 'utf8');
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseObject(message: Buffer, bad: (what: string) => VproxyError): Record<string, unknown> {
  let value: unknown;
  try {
    // Any other value is not even parsed: only of an object has the scanner limited the values.
    if (message[0] === OPENING_BRACE) value = JSON.parse(message.toString('utf8'));
  } catch {
    // The text of JSON.parse's error repeats what the peer sent; it is shown bounded and escaped below instead.
  }
  if (isObject(value)) return value;
  throw bad(`is no JSON object: "${escapeText(message.toString('utf8', 0, 400), 100)}"`);
}

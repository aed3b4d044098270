/** Reads untrusted input: the body and query of a request, checked against the schemas of its route. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isObject } from '../../codec/json.js';
import { VproxyError } from '../../errors.js';
import type * as z from '../../status/zod.js';
import { escapeText } from '../../util/escape.js';
import { RequestError } from '../routes/request-error.js';

/** The longest body by default. */
const MAX_BODY_BYTES = 65_536;

/** The longest body of routes whose bodies may be long. */
export const MAX_LONG_BODY_BYTES = 2_097_152;

const utf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * Reads the JSON object in the body; an empty body counts as `{}`. Rejects with `bad-argument` and the status 413, 415 or
 * 400, and with `cancelled` if the client disconnects first.
 */
export async function readBody(
  request: IncomingMessage,
  response: ServerResponse,
  maxBytes = MAX_BODY_BYTES,
): Promise<unknown> {
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw tooLong(maxBytes);
  allowBody(request, response);
  const bytes = await readBytes(request, maxBytes);
  if (bytes.length === 0) return {};
  const type = request.headers['content-type'] ?? '';
  if (!/^application\/json *(;|$)/i.test(type)) {
    throw new RequestError('bad-argument', 'body: not declared as JSON; use Content-Type: application/json', {
      status: 415,
    });
  }
  return parseObject(bytes);
}

/** The bytes of a body, as they are wanted; the connection outlives a reader that stops early, for its answer. */
export async function* bytesOf(request: IncomingMessage, response: ServerResponse): AsyncGenerator<Buffer, void> {
  allowBody(request, response);
  yield* request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
}

/** Answers a client that asks whether it may send the body, which then no longer asks. */
function allowBody({ headers, httpVersion }: IncomingMessage, response: ServerResponse): void {
  if (headers.expect !== undefined && httpVersion !== '1.0') response.writeContinue();
  delete headers.expect;
}

function readBytes(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(new VproxyError('cancelled', 'the client disconnected during a request'));
    if (request.destroyed) giveUp();
    const chunks: Buffer[] = [];
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= maxBytes) chunks.push(chunk);
      else reject(tooLong(maxBytes));
    });
    request.once('end', () => resolve(Buffer.concat(chunks)));
    request.once('error', giveUp).once('close', giveUp);
  });
}

function parseObject(bytes: Buffer): object {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(bytes));
  } catch (cause) {
    throw new RequestError('bad-argument', 'body: not valid JSON in UTF-8', { cause });
  }
  if (isObject(value)) return value;
  throw new RequestError('bad-argument', 'body: not a JSON object');
}

const tooLong = (maxBytes: number): RequestError =>
  new RequestError('bad-argument', `body too long (max ${maxBytes} bytes)`, { status: 413 });

/** Parses `value` with a schema. Throws `bad-argument` with the path of the first invalid field. */
export function parseInput(schema: z.ZodObject | null, value: unknown): unknown {
  if (schema === null) {
    const [field] = Object.keys(value ?? {});
    if (field !== undefined) throw unknownField([field]);
    return undefined;
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  if (issue?.code === 'unrecognized_keys') throw unknownField([...issue.path, issue.keys[0] ?? '']);
  const field = fieldText(issue?.path ?? []);
  const what = plainMessage(issue);
  throw new RequestError('bad-argument', field === '' ? what : `${field}: ${what}`, field === '' ? {} : { field });
}

/** Parses a query. Throws `bad-argument` for duplicate fields, and for what is not UTF-8. */
export function parseQueryText(text: string): Record<string, string> {
  const values: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const part of text.split('&').filter((one) => one !== '')) {
    const [key = '', ...rest] = part.replaceAll('+', ' ').split('=');
    const field = escapeText(decodeText('query', key), 80);
    if (field in values) throw new RequestError('bad-argument', `${field}: given twice`, { field });
    values[field] = decodeText(field, rest.join('='));
  }
  return { ...values };
}

/** Decodes a text of a URL. Throws `bad-argument`: with another character in place of a byte, it could name another file. */
export function decodeText(what: string, text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    const message = `${what}: "${escapeText(text, 80)}" is not percent-encoded UTF-8`;
    throw new RequestError('bad-argument', message, { cause });
  }
}

function unknownField(path: readonly PropertyKey[]): RequestError {
  const field = fieldText(path);
  return new RequestError('bad-argument', `${field}: unknown field`, { field });
}

/** `outgoing[0]`, `storage.socket`. */
function fieldText(path: readonly PropertyKey[]): string {
  const parts = path.map((key) => (typeof key === 'number' ? `[${key}]` : `.${escapeText(String(key), 80)}`));
  return parts.join('').replace(/^\./, '');
}

function plainMessage(issue: z.core.$ZodIssue | undefined): string {
  const message = (issue?.message ?? 'not valid').replace(/^Invalid input: /, '');
  return message === 'expected string, received undefined' ? 'missing' : message;
}

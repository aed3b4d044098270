/** The body of a request, which may be anything. */
import type { IncomingMessage } from 'node:http';
import { VproxyError } from '../errors.js';
import { RequestError } from './request-error.js';

/** A longer body is refused. */
export const MAX_BODY_BYTES = 65_536;

const utf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * The JSON object in the body; an empty body counts as one without fields. Rejects with `bad-argument` and the status
 * 413, 415 or 400, and with `cancelled` where the connection ends first.
 */
export async function readBody(request: IncomingMessage): Promise<unknown> {
  if (isBodyTooLong(request)) throw tooLong();
  const bytes = await readBytes(request);
  if (bytes.length === 0) return {};
  const type = request.headers['content-type'] ?? '';
  if (!/^application\/json *(;|$)/i.test(type)) {
    throw new RequestError(
      'bad-argument',
      'the body is not declared as JSON: it wants Content-Type: application/json',
      {
        status: 415,
      },
    );
  }
  return parseObject(bytes);
}

/** Whether the body is longer than `MAX_BODY_BYTES` as its header says. */
export function isBodyTooLong({ headers }: IncomingMessage): boolean {
  return Number(headers['content-length'] ?? 0) > MAX_BODY_BYTES;
}

function readBytes(request: IncomingMessage): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const give = () => reject(new VproxyError('cancelled', 'the connection ended within a request'));
    if (request.destroyed) give();
    const chunks: Buffer[] = [];
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= MAX_BODY_BYTES) chunks.push(chunk);
      else reject(tooLong());
    });
    request.once('end', () => resolve(Buffer.concat(chunks)));
    request.once('error', give).once('close', give);
  });
}

function parseObject(bytes: Buffer): object {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(bytes));
  } catch (cause) {
    throw new RequestError('bad-argument', 'the body is not JSON in UTF-8', { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new RequestError('bad-argument', 'the body is not a JSON object');
}

const tooLong = (): RequestError =>
  new RequestError('bad-argument', `the body is longer than ${MAX_BODY_BYTES} bytes`, { status: 413 });

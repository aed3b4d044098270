/** Chunked bodies as an egress reads them: from every split what a simple second parser of complete input finds. */
import assert from 'node:assert/strict';
import { BadMessage, HeadTooLarge } from '../../../lib/forward/egress/head.js';
import { HttpReader } from '../../../lib/forward/egress/message.js';
import { everySplit, FuzzInput } from '../fuzz-input.js';
import { assertShowable } from '../outcome.js';

const MAX_LINE_BYTES = 1024;
const MAX_TRAILER_BYTES = 16_384;

/** A reader of what comes in these pieces. */
export function readerOf(chunks: readonly Buffer[]): HttpReader {
  const left = [...chunks];
  return new HttpReader({ read: () => Promise.resolve(left.shift() ?? null) });
}

/** Throws an error that is no refusal of a message. */
function assertRefusal(error: unknown): void {
  if (!(error instanceof BadMessage || error instanceof HeadTooLarge)) throw error;
  assertShowable(error.message);
}

const isToken = (text: string): boolean =>
  text !== '' &&
  Array.from(text).every((character) => /[!-~]/.test(character) && !'"(),/:;<=>?@[\\]{}'.includes(character));

const isText = (text: string): boolean =>
  Array.from(text).every((character) => character === '\t' || (character >= ' ' && character !== '\u007f'));

/** Whether a line is a field. */
function isField(line: string): boolean {
  const colon = line.indexOf(':');
  return isToken(line.slice(0, Math.max(0, colon))) && isText(line.slice(colon + 1));
}

/** Input: sizes, then a body of chunks and what follows it. */
export async function fuzzEgressChunks(bytes: Uint8Array): Promise<void> {
  const input = new FuzzInput(bytes);
  const sizes = input.sizes();
  const stream = input.rest();
  const expected = plainChunks(stream.toString('latin1'));
  for (const chunks of everySplit(stream, sizes)) assert.deepEqual(await readChunks(chunks), expected);
}

async function readChunks(chunks: readonly Buffer[]): Promise<readonly [body: string, rest: string] | null> {
  const reader = readerOf(chunks);
  const pieces: Buffer[] = [];
  const rest: Buffer[] = [];
  try {
    for await (const piece of reader.body({ kind: 'chunked' })) pieces.push(Buffer.from(piece));
    for await (const piece of reader.body({ kind: 'close' })) rest.push(Buffer.from(piece));
  } catch (error) {
    assertRefusal(error);
    return null;
  }
  return [Buffer.concat(pieces).toString('latin1'), Buffer.concat(rest).toString('latin1')];
}

/** The body, and what follows it; null where it is not valid, or not complete. */
function plainChunks(text: string): readonly [body: string, rest: string] | null {
  let at = 0;
  const line = (maxBytes: number): string | null => {
    const end = text.indexOf('\n', at);
    const found = text.slice(at, end - 1);
    if (end <= at || text[end - 1] !== '\r' || found.includes('\r') || found.length > maxBytes) return null;
    at = end + 1;
    return found;
  };
  let body = '';
  for (;;) {
    const [size = '', ...extension] = line(MAX_LINE_BYTES)?.split(/(?=;)/) ?? [];
    if (!/^[\da-f]{1,13}$/i.test(size) || !isText(extension.join(''))) return null;
    const byteCount = Number(`0x${size}`);
    if (byteCount === 0) break;
    if (text.length - at < byteCount) return null;
    body += text.slice(at, at + byteCount);
    at += byteCount;
    if (line(0) !== '') return null;
  }
  for (let left = MAX_TRAILER_BYTES; ; ) {
    const found = line(left);
    if (found === '') return [body, text.slice(at)];
    if (found === null || !isField(found)) return null;
    left -= found.length + 2;
  }
}

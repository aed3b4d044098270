/** Input of guests and origins of an egress: every split gives the result of a simple second parser of complete input. */
import assert from 'node:assert/strict';
import { parseDestination } from '../../../lib/forward/egress/admission.js';
import type { Conversation, ConversationContext } from '../../../lib/forward/egress/conversation.js';
import { BadMessage, HeadTooLarge } from '../../../lib/forward/egress/head.js';
import { HttpReader } from '../../../lib/forward/egress/message.js';
import { Refusal } from '../../../lib/forward/egress/refusal.js';
import type { Destination } from '../../../lib/forward/egress/rules.js';
import { SOCKS_5, SocksConversation } from '../../../lib/forward/egress/socks.js';
import { assertShowable, everySplit, FuzzInput } from '../input.js';

const MAX_LINE_BYTES = 1024;
const MAX_TRAILER_BYTES = 16_384;

function readerOf(chunks: readonly Buffer[]): HttpReader {
  const left = [...chunks];
  return new HttpReader({ read: () => Promise.resolve(left.shift() ?? null) });
}

const isText = (text: string): boolean =>
  Array.from(text).every((character) => character === '\t' || (character >= ' ' && character !== '\u007f'));

/** Whether a line is a field: of a token, a colon and a text. */
function isField(line: string): boolean {
  const [name = '', ...rest] = line.split(':');
  const isToken = Array.from(name).every((sign) => /[!-~]/.test(sign) && !'"(),/:;<=>?@[\\]{}'.includes(sign));
  return rest.length > 0 && name !== '' && isToken && isText(rest.join(':'));
}

/** A chunked body. Input: sizes, then the body and the bytes after it. */
export async function fuzzEgressChunks(bytes: Uint8Array): Promise<void> {
  await readAlike(bytes, readChunks, (stream) => plainChunks(stream.toString('latin1')));
}

async function readAlike<T>(
  bytes: Uint8Array,
  read: (chunks: readonly Buffer[]) => Promise<T>,
  readPlainly: (stream: Buffer) => T,
): Promise<void> {
  const input = new FuzzInput(bytes);
  const sizes = input.sizes();
  const stream = input.rest();
  const expected = readPlainly(stream);
  for (const chunks of everySplit(stream, sizes)) assert.deepEqual(await read(chunks), expected);
}

async function readChunks(chunks: readonly Buffer[]): Promise<readonly [body: string, rest: string] | null> {
  const reader = readerOf(chunks);
  const pieces: Buffer[] = [];
  const rest: Buffer[] = [];
  try {
    for await (const piece of reader.body({ kind: 'chunked' })) pieces.push(Buffer.from(piece));
    for await (const piece of reader.body({ kind: 'close' })) rest.push(Buffer.from(piece));
  } catch (error) {
    if (!(error instanceof BadMessage || error instanceof HeadTooLarge)) throw error;
    assertShowable(error.message);
    return null;
  }
  return [Buffer.concat(pieces).toString('latin1'), Buffer.concat(rest).toString('latin1')];
}

/** The body, and the bytes after it; null if it is invalid or incomplete. */
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

/** The result of a conversation: the dialled destination, and the first two bytes of each reply. */
type Course = readonly [dialled: Destination | null, ...replies: string[]];

/** Refused by the rules, or as an invalid destination. */
const DENIED = 2;
const AGREED = '0500';
const NONE_AGREED = '05ff';

/** SOCKS 5: the destination, and the replies. Input: sizes, then the guest's bytes. */
export const fuzzEgressSocks = (bytes: Uint8Array): Promise<void> => readAlike(bytes, converse, plainCourse);

/** A conversation in which each destination is refused by the rules. */
async function converse(chunks: readonly Buffer[]): Promise<Course> {
  let dialled: Destination | null = null;
  const replies: string[] = [];
  const guest = {
    write: (bytes: Buffer) => Promise.resolve(void replies.push(bytes.toString('hex', 0, 2))),
    expectNothing: () => undefined,
    close: () => undefined,
  } as unknown as Conversation;
  const context = {
    dial(destination: Destination) {
      dialled = destination;
      return Promise.reject(new Refusal('denied', 'no entry allows it'));
    },
    onRefused: ({ message }: Error) => assertShowable(message),
  } as unknown as ConversationContext;
  assert.equal(await new SocksConversation(guest, readerOf(chunks), context).run(), null);
  return [dialled, ...replies];
}

function plainCourse(bytes: Buffer): Course {
  const [, count = 0] = bytes;
  const methods = bytes.subarray(2, 2 + count);
  if (bytes.length < 2 || methods.length < count || !methods.includes(0)) return [null, NONE_AGREED];
  const refused = (code: number): Course => [null, AGREED, `05${Buffer.from([code]).toString('hex')}`];
  const request = bytes.subarray(2 + count);
  const [version, command, reserved, type, length = 0] = request;
  if (request.length < 4 || version !== SOCKS_5 || reserved !== 0) return refused(1);
  const size = { 1: 4, 3: 1 + length, 4: 16 }[type ?? 0];
  if (size === undefined) return refused(8);
  const [host, port] = [request.subarray(4, 4 + size), request.subarray(4 + size, 6 + size)];
  if (port.length < 2) return refused(1);
  if (command !== 1) return refused(7);
  try {
    const dialled = parseDestination(plainHost(host, type), (port[0] as number) * 256 + (port[1] as number));
    return [dialled, AGREED, `050${DENIED}`];
  } catch (error) {
    if (error instanceof Refusal) return refused(DENIED);
    throw error;
  }
}

function plainHost(bytes: Buffer, type: number | undefined): string {
  if (type === 1) return bytes.join('.');
  return type === 3 ? bytes.toString('utf8', 1) : (bytes.toString('hex').match(/.{4}/g) ?? []).join(':');
}

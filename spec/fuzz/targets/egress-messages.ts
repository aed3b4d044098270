/** HTTP as an egress reads it: heads, requests and chunked bodies, as simple second parsers of complete input read them, from every split. */
import assert from 'node:assert/strict';
import net from 'node:net';
import { judgeAddress } from '../../../lib/forward/egress/admission.js';
import {
  BadMessage,
  type Field,
  formatHead,
  HeadTooLarge,
  parseField,
  parseRequestHead,
  parseRequestLine,
  parseResponseHead,
} from '../../../lib/forward/egress/head.js';
import { HttpReader } from '../../../lib/forward/egress/message.js';
import { Refusal } from '../../../lib/forward/egress/refusal.js';
import { originRequestHead, parseProxyRequest } from '../../../lib/forward/egress/request.js';
import { parseEgressEntry } from '../../../lib/forward/egress/rules.js';
import { everySplit, FuzzInput } from '../fuzz-input.js';
import { assertShowable } from '../outcome.js';

/** How many bytes a head may have here. */
const MAX_HEAD_BYTES = 300;
const MAX_LINE_BYTES = 1024;
const MAX_TRAILER_BYTES = 16_384;

/** A reader of what comes in these pieces. */
export function readerOf(chunks: readonly Buffer[]): HttpReader {
  const left = [...chunks];
  return new HttpReader({ read: () => Promise.resolve(left.shift() ?? null) });
}

/** The name of the error that a message is refused with; any other error is thrown. */
function refusalName(error: unknown): string {
  const isRefusal = [BadMessage, HeadTooLarge, Refusal].some((type) => error instanceof type);
  if (!isRefusal || !(error instanceof Error)) throw error;
  assertShowable(error.message);
  return error.constructor.name;
}

function valueOf<T>(parse: () => T): T | null {
  try {
    return parse();
  } catch (error) {
    refusalName(error);
    return null;
  }
}

/** Input: flags (1 an answer, else a request), sizes, bytes. */
export async function fuzzEgressHeads(bytes: Uint8Array): Promise<void> {
  const input = new FuzzInput(bytes);
  const isAnswer = (input.byte() & 1) > 0;
  const sizes = input.sizes();
  const stream = input.rest();
  const expected = plainHead(stream.toString('latin1'));
  for (const chunks of everySplit(stream, sizes)) {
    const reader = readerOf(chunks);
    const head = await reader.head({ maxBytes: MAX_HEAD_BYTES }).catch((error: unknown) => [refusalName(error)]);
    assert.deepEqual(head, expected);
  }
  if (typeof expected !== 'string') return;
  const parse = isAnswer ? parseResponseHead : parseRequestHead;
  const found = valueOf(() => parse(expected));
  const [first = '', ...lines] = expected.slice(0, -4).split('\r\n');
  const fields = lines.map(plainField);
  const isFirst = isAnswer ? isStatusLine(first) : isRequestLine(first);
  assert.equal(found !== null, isFirst && fields.every((field) => field !== null));
  if (found === null) return;
  assert.deepEqual(found.fields, fields);
  assert.deepEqual(parse(formatHead(first, found.fields).toString('latin1')), found);
}

/** The head at the beginning of complete input, null where there is nothing, or the name of the error. */
function plainHead(text: string): string | readonly [string] | null {
  if (text === '') return null;
  const body = text.replace(/^\r\n/, '');
  const seen = body.slice(0, MAX_HEAD_BYTES);
  const end = seen.indexOf('\r\n\r\n');
  const wrong = seen.search(/(?<!\r)\n|\r(?!\n|$)|\0/);
  if (end !== -1 && (wrong === -1 || wrong > end)) return seen.slice(0, end + 4);
  if (wrong !== -1) return ['BadMessage'];
  return [body.length >= MAX_HEAD_BYTES ? 'HeadTooLarge' : 'Incomplete'];
}

const isToken = (text: string): boolean =>
  text !== '' &&
  Array.from(text).every((character) => /[!-~]/.test(character) && !'"(),/:;<=>?@[\\]{}'.includes(character));

const isText = (text: string): boolean =>
  Array.from(text).every((character) => character === '\t' || (character >= ' ' && character !== '\u007f'));

function plainField(line: string): Field | null {
  const colon = line.indexOf(':');
  const value = Array.from(line.slice(colon + 1));
  const isBlank = (character: string | undefined): boolean => character === ' ' || character === '\t';
  while (isBlank(value[0])) value.shift();
  while (isBlank(value.at(-1))) value.pop();
  const name = line.slice(0, Math.max(0, colon));
  return isToken(name) && isText(value.join('')) ? { name, value: value.join('') } : null;
}

function isRequestLine(line: string): boolean {
  const [method = '', target = '', version = '', ...more] = line.split(' ');
  return more.length === 0 && isToken(method) && /^[!-~]+$/.test(target) && isVersion(version);
}

function isStatusLine(line: string): boolean {
  const [version = '', status = '', ...phrase] = line.split(' ');
  return isVersion(version) && status.length === 3 && Number(status) >= 100 && isText(phrase.join(' '));
}

const isVersion = (text: string): boolean => text === 'HTTP/1.0' || text === 'HTTP/1.1';

const EVERYTHING = {
  allow: ['*:*', '0.0.0.0/0:*', '[::/0]:*'].map(parseEgressEntry),
  deny: [],
  upstream: null,
};

/** Input: the method, then the target and, behind a newline, the Host. */
export function fuzzEgressTargets(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const method = input.pick(['GET', 'CONNECT', 'OPTIONS', 'POST']);
  const [target = '', host = target] = input.text().split('\n');
  const request = valueOf(() => {
    const fields = [parseField(`Host: ${host}`)];
    return parseProxyRequest({ ...parseRequestLine(`${method} ${target} HTTP/1.1`), fields });
  });
  if (request === null) return;
  const { destination, originTarget } = request;
  const { family, host: name, port } = destination;
  // As a browser reads it, which knows more spellings.
  const url = new URL(method === 'CONNECT' ? `http://${target}` : target);
  assert.equal(new URL(`http://${family === 6 ? `[${name}]` : name}`).hostname, url.hostname.replace(/\.$/, ''));
  assert.equal(port, Number(url.port === '' ? 80 : url.port));
  assert.equal(net.isIP(name), family);
  assert.deepEqual([url.username, url.password, url.hash], ['', '', '']);
  if (family !== 0) {
    assert.ok(!judgeAddress(EVERYTHING, destination, name, () => true).isAllowed, 'an address of this machine');
    const isLocal = name === '::1' || /^(?:::ffff:)?127\./.test(name);
    if (isLocal) assert.ok(!judgeAddress(EVERYTHING, destination, name, () => false).isAllowed);
  }
  if (originTarget === null || originTarget === '*') return;
  // For the origin server it is the same request.
  const { fields, target: path } = parseRequestHead(originRequestHead(request).toString('latin1'));
  const [first] = fields;
  assert.equal(path, originTarget);
  const again = parseProxyRequest({ method, target: `http://${first?.value ?? ''}${path}`, minor: 1, fields });
  assert.deepEqual(again.destination, destination);
  assert.equal(again.originTarget, originTarget);
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
    refusalName(error);
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
    if (found === null || plainField(found) === null) return null;
    left -= found.length + 2;
  }
}

/**
 * Heads of HTTP/1.1 messages, read as strictly as RFC 9112 allows: anything that two readers could understand differently is an
 * error, so that nothing passes this side unseen.
 */

/** An invalid message; the text tells what is wrong without repeating any of it. */
export class BadMessage extends Error {}

export class BadVersion extends BadMessage {}

/** A head exceeds its limit. */
export class HeadTooLarge extends Error {}

/** The other side ended in the middle of a message. */
export class Incomplete extends BadMessage {
  constructor() {
    super('incomplete message');
  }
}

/** A field line; the value has no surrounding white space, and one character per byte. */
export interface Field {
  readonly name: string;
  readonly value: string;
}

export interface RequestLine {
  readonly method: string;
  /** The request-target as received, printable ASCII. */
  readonly target: string;
  /** The x of HTTP/1.x. */
  readonly minor: 0 | 1;
}

export interface RequestHead extends RequestLine {
  readonly fields: readonly Field[];
}

export interface ResponseHead {
  readonly status: number;
  readonly phrase: string;
  readonly minor: 0 | 1;
  readonly fields: readonly Field[];
}

const CR = 0x0d;
const LF = 0x0a;

/**
 * The end of the head at the start of `bytes`, after its empty line; -1 if incomplete. Bytes before `from` were already checked.
 * Throws {@link BadMessage} for a bare CR or LF (RFC 9112 section 2.2), and for a NUL.
 */
export function endOfHead(bytes: Buffer, from: number): number {
  for (let at = from; at < bytes.length; at += 1) {
    const byte = bytes[at];
    const before = at > 0 ? bytes[at - 1] : 0;
    if (byte === LF) {
      if (before !== CR) throw new BadMessage('a line ends with LF instead of CRLF');
      if (at >= 3 && bytes[at - 2] === LF) return at + 1;
    } else if (before === CR) {
      throw new BadMessage('CR without LF in the head');
    } else if (byte === 0) {
      throw new BadMessage('NUL in the head');
    }
  }
  return -1;
}

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const ONE_TOKEN = new RegExp(`^${TOKEN}$`);
const REQUEST_LINE = new RegExp(`^(${TOKEN}) ([\\x21-\\x7e]+) HTTP/(\\d)\\.(\\d)$`);
const STATUS_LINE = /^HTTP\/(\d)\.(\d) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?$/;
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

export const isToken = (text: string): boolean => ONE_TOKEN.test(text);

/** Whether an HTTP request may begin with that byte: a method is a token. */
export const beginsToken = (byte: number): boolean => isToken(String.fromCharCode(byte));

/** Parses the first line of a request, without its CRLF (RFC 9112 section 3). Throws {@link BadMessage}. */
export function parseRequestLine(line: string): RequestLine {
  const [, method, target, major, minor] = REQUEST_LINE.exec(line) ?? [];
  if (method === undefined || target === undefined) throw new BadMessage('the first line is not an HTTP/1.1 request');
  return { method, target, minor: parseMinor(major, minor) };
}

function parseMinor(major = '', minor = ''): 0 | 1 {
  if (major !== '1' || Number(minor) > 1) throw new BadVersion('only HTTP/1.1 and HTTP/1.0 are supported');
  return minor === '0' ? 0 : 1;
}

/** Parses the head of a request, with its empty line. Throws {@link BadMessage} or {@link HeadTooLarge}. */
export function parseRequestHead(text: string): RequestHead {
  const [first = '', ...rest] = linesOf(text);
  return { ...parseRequestLine(first), fields: rest.map(parseField) };
}

/** Parses the head of a response, with its empty line. Throws the same. */
export function parseResponseHead(text: string): ResponseHead {
  const [first = '', ...rest] = linesOf(text);
  const [, major, minor, status, phrase = ''] = STATUS_LINE.exec(first) ?? [];
  if (status === undefined) throw new BadMessage('the first line is not an HTTP/1.1 response');
  return { status: Number(status), phrase, minor: parseMinor(major, minor), fields: rest.map(parseField) };
}

/** Limit on the fields of a head. */
const MAX_FIELDS = 1000;

function linesOf(text: string): string[] {
  const lines = text.slice(0, -'\r\n\r\n'.length).split('\r\n', 1 + MAX_FIELDS + 1);
  if (lines.length > 1 + MAX_FIELDS) throw new HeadTooLarge(`too many header fields (max ${MAX_FIELDS})`);
  return lines;
}

/** Parses a field line without its CRLF (RFC 9112 section 5). Throws {@link BadMessage}, also for a folded one. */
export function parseField(line: string): Field {
  const colon = line.indexOf(':');
  const name = line.slice(0, Math.max(colon, 0));
  const value = withoutBlanks(line.slice(colon + 1));
  if (ONE_TOKEN.test(name) && FIELD_VALUE.test(value)) {
    if (isLongList(name, value)) throw new BadMessage(`too many elements in a header field (max ${MAX_ELEMENTS})`);
    return { name, value };
  }
  if (isBlank(line[0])) throw new BadMessage('a header field is folded over several lines');
  if (isBlank(name.at(-1))) throw new BadMessage('white space before the colon of a header field');
  throw new BadMessage('a header field is not NAME: VALUE');
}

/** Whether a line is `NAME: VALUE`. */
export function isField(line: string): boolean {
  try {
    parseField(line);
    return true;
  } catch {
    return false;
  }
}

/** Limit on list elements in a field, empty ones included: RFC 9110 section 5.6.1 has readers ignore a reasonable number. */
const MAX_ELEMENTS = 256;

/** The fields read with {@link listOf}. */
const LISTS: ReadonlySet<string> = new Set(['connection', 'transfer-encoding']);

const isLongList = (name: string, value: string): boolean =>
  value.length >= MAX_ELEMENTS &&
  LISTS.has(name.toLowerCase()) &&
  value.split(',', MAX_ELEMENTS + 1).length > MAX_ELEMENTS;

const isBlank = (character: string | undefined): boolean => character === ' ' || character === '\t';

/** Strips surrounding blanks. Not `trim`, which also strips U+00A0, a byte of a value here. */
function withoutBlanks(text: string): string {
  let start = 0;
  let end = text.length;
  while (isBlank(text[start])) start += 1;
  while (end > start && isBlank(text[end - 1])) end -= 1;
  return text.slice(start, end);
}

/** The values of a field, by lower-case name. */
export const valuesOf = (fields: readonly Field[], name: string): string[] =>
  fields.filter((field) => field.name.toLowerCase() === name).map(({ value }) => value);

/** The elements of a list field, in lower case. */
export const listOf = (fields: readonly Field[], name: string): string[] =>
  valuesOf(fields, name)
    .flatMap((value) => value.toLowerCase().split(','))
    .map(withoutBlanks)
    .filter((element) => element !== '');

const CLOSING = /(?:^|,)[\t ]*close[\t ]*(?:,|$)/i;

/** Whether the connection ends with the message. */
export const isClosing = (fields: readonly Field[], name = 'connection'): boolean =>
  valuesOf(fields, name).some((value) => CLOSING.test(value));

export const CLOSE: Field = { name: 'Connection', value: 'close' };

/** Fields for one connection only, or that a proxy writes itself (RFC 9110 section 7.6.1). */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'http2-settings',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

export const isEndToEnd = (name: string): boolean => !HOP_BY_HOP.has(name.toLowerCase());

/** The fields to forward: all but those of the connection, including those that `Connection` names. */
export function endToEnd(fields: readonly Field[]): Field[] {
  const named = new Set(listOf(fields, 'connection'));
  return fields.filter(({ name }) => isEndToEnd(name) && !named.has(name.toLowerCase()));
}

/** The text of a head, with its empty line. */
export const formatHead = (first: string, fields: readonly Field[]): Buffer =>
  Buffer.from(`${[first, ...fields.map(({ name, value }) => `${name}: ${value}`)].join('\r\n')}\r\n\r\n`, 'latin1');

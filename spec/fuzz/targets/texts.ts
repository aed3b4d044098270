/** Written texts and foreign lines: refused with one of our codes, or equal to a simple second reading, in every split. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type net from 'node:net';
import { formatFifoLine } from '../../../cli/commands/hypervisor.js';
import { formatJsonLine, formatTextLine } from '../../../cli/run/output.js';
import { parseChannel } from '../../../lib/channel/address/address.js';
import { askHybridVsock, parseConnectLine, parseVsockPort } from '../../../lib/channel/vsock-mux.js';
import { LineBuffer, MAX_LINE_BYTES } from '../../../lib/forward/endpoints/file-endpoint.js';
import { GroupPattern, memberLabelProblem } from '../../../lib/proxy/groups/group-pattern.js';
import { FirstLine, type OnRead } from '../../../lib/system/sockets/node-sockets.js';
import { escapeText } from '../../../lib/util/escape.js';
import { parseXml, type XmlElement } from '../../../lib/util/xml.js';
import { assertShowable, everySplit, FuzzInput, outcomeOf, splitBySizes, textOf } from '../input.js';

/** The text of a channel is a bad argument, or canonical after one parse. */
export function fuzzChannelText(bytes: Uint8Array): void {
  const outcome = outcomeOf(['bad-argument'], () => parseChannel(textOf(bytes)));
  if ('value' in outcome) assert.deepEqual(parseChannel(outcome.value.text), outcome.value);
}

/** XML is a bad file, or a tree that is the same when it is written in the simplest form and read again. */
export function fuzzXml(bytes: Uint8Array): void {
  const outcome = outcomeOf(['bad-file'], () => parseXml(textOf(bytes)));
  if ('value' in outcome) assert.deepEqual(parseXml(write(outcome.value)), outcome.value);
}

function write({ name, attributes, children }: XmlElement): string {
  const reference = (character: string): string => `&#${character.codePointAt(0) ?? 0};`;
  const list = [...attributes].map(([key, value]) => ` ${key}="${value.replace(/["&<\t\r\n]/g, reference)}"`);
  return `<${name}${list.join('')}>${children.map(write).join('')}</${name}>`;
}

/**
 * The label for the `*` of a group equals that of a simple pattern, and leads back to the file. Input: the address of a
 * group and, after a newline, the name of a file.
 */
export function fuzzGroupNames(bytes: Uint8Array): void {
  const [address = '', name = ''] = textOf(bytes).split('\n');
  const outcome = outcomeOf(['bad-argument'], () => new GroupPattern(parseChannel(address)));
  // Not a possible file name.
  if ('code' in outcome || name === '' || /[/\0]/.test(name)) return;
  const pattern = outcome.value;
  const [folder = '', prefix = '', suffix = ''] = /^(.*\/|)([^/]*)\*([^/]*)$/s.exec(pattern.path)?.slice(1) ?? [];
  const part = pattern.match(name);
  assert.equal(part, plainMatch(name, prefix, suffix));
  if (part === null) return;
  const path = `${folder}${name}`;
  assert.equal(pattern.pathOf(part), path);
  const problem = memberLabelProblem(part);
  if (problem !== null) {
    assertShowable(problem);
    return;
  }
  assert.match(part, /^[a-z0-9][a-z0-9._-]{0,63}$/);
  // The path of a member may be longer than that of the group, and too long.
  const member = outcomeOf(['bad-argument'], () => pattern.addressOf(part));
  if ('value' in member) assert.deepEqual([member.value.kindName, member.value.address], ['unix-connect', path]);
}

function plainMatch(name: string, prefix: string, suffix: string): string | null {
  const length = name.length - prefix.length - suffix.length;
  const part = name.substring(prefix.length, prefix.length + length);
  if (length < 1 || name !== `${prefix}${part}${suffix}`) return null;
  return prefix === '' && name.startsWith('.') ? null : part;
}

/**
 * Foreign text in the log can be read back, and is always one line. Input: the length to cut to, then code units of
 * UTF-16, so that lone surrogates come too.
 */
export function fuzzLogLines(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const maxLength = input.byte();
  const text = input.rest().toString('utf16le');
  const shown = escapeText(text, maxLength);
  assertShowable(shown);
  assert.equal(unescapeText(shown), text.length > maxLength ? `${text.slice(0, maxLength)}…` : text);

  const event = { level: 'info', event: 'channel-waiting', message: shown, fields: { [text]: text, text } } as const;
  const line = formatJsonLine(event, new Date(0));
  assert.doesNotMatch(line, /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/);
  const { message, fields } = JSON.parse(line) as typeof event;
  assert.deepEqual([message, fields], [shown, event.fields]);
  assertShowable(formatTextLine({ ...event, fields: { text } }, true));
  assert.doesNotMatch(formatFifoLine(`/${text}`, 0o660, 'a', 'b'), /\n/);
}

function unescapeText(shown: string): string {
  const signs: Readonly<Record<string, string>> = { '\\': '\\', n: '\n', t: '\t' };
  return shown.replace(
    /\\(?:([\\nt])|x([0-9a-f]{2})|u\{([0-9a-f]{1,6})\})/g,
    (_, sign?: string, x?: string, u?: string) =>
      sign === undefined ? String.fromCodePoint(Number.parseInt(x ?? u ?? '', 16)) : (signs[sign] ?? ''),
  );
}

/**
 * The lines of a file: all bytes in order, whole lines of bounded length. Input: how far from the longest line the
 * first newline is, whether there is such a line, sizes, bytes after it.
 */
export function fuzzLineBuffer(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const offset = input.byte() - 128;
  const head = Buffer.alloc(input.byte() % 4 === 0 ? MAX_LINE_BYTES + offset : 0, 'x');
  const sizes = input.sizes();
  const tail = input.rest();
  const stream = Buffer.concat([head, tail]);
  const expected = cut(stream);
  const chunkings = [[stream], [head, ...splitBySizes(tail, sizes)], splitBySizes(stream, [sizes[0] ?? 1, 40_000])];
  for (const chunks of [...chunkings, [head, ...splitBySizes(tail, [1])]]) {
    assert.ok(collect(chunks).equals(expected), 'the lines depend on the split');
  }
}

/** By definition: a newline after every longest piece of a line that is too long. */
function cut(stream: Buffer): Buffer {
  const lines: Buffer[] = [];
  for (let at = 0; at < stream.length; ) {
    const found = stream.indexOf('\n', at);
    const end = Math.min(found === -1 ? stream.length : found, at + MAX_LINE_BYTES);
    lines.push(stream.subarray(at, end), Buffer.from('\n'));
    at = end === found ? end + 1 : end;
  }
  return Buffer.concat(lines);
}

function collect(chunks: readonly Buffer[]): Buffer {
  const buffer = new LineBuffer();
  const lines: Buffer[] = [];
  for (const chunk of chunks) {
    const whole = buffer.add(chunk);
    assert.ok(whole === null || whole.at(-1) === 10);
    assert.ok(buffer.heldBytes <= MAX_LINE_BYTES);
    if (whole !== null) lines.push(whole);
  }
  return Buffer.concat([...lines, buffer.end() ?? Buffer.alloc(0)]);
}

/** Limits of a hybrid vsock listener on a line, and of a caller on an answer. */
const [MAX_CALL_BYTES, MAX_ANSWER_BYTES] = [80, 32];

/**
 * The first line of hybrid vsock, in both directions, without losing a byte after it. Input: flags (1 an
 * answer, else a CONNECT; 2 the socket ends), sizes, what comes from the socket.
 */
export function fuzzHybridVsock(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const flags = input.byte();
  const [isAnswer, isEnd] = [(flags & 1) > 0, (flags & 2) > 0];
  const sizes = input.sizes();
  const stream = input.rest();
  const expected = isAnswer ? plainAnswer(stream, isEnd) : plainLine(stream);
  for (const chunks of everySplit(stream, sizes))
    assert.deepEqual(isAnswer ? callMux(chunks, isEnd) : listen(chunks), expected);
}

/** The line in complete input, without its newline; null if it is too long, undefined before its end. */
function lineOf(stream: Buffer, maxBytes: number): string | null | undefined {
  const end = stream.indexOf('\n');
  if (end !== -1 && end < maxBytes) return stream.toString('latin1', 0, end);
  return stream.length >= maxBytes ? null : undefined;
}

function plainLine(stream: Buffer): readonly unknown[] {
  const line = lineOf(stream, MAX_CALL_BYTES);
  if (line === undefined) return [];
  return line === null ? [null] : [line, stream.toString('hex', line.length + 1)];
}

function plainAnswer(stream: Buffer, isEnd: boolean): readonly unknown[] {
  const line = lineOf(stream, MAX_ANSWER_BYTES);
  if (line === undefined) return isEnd ? ['closed'] : [];
  const isOk = line !== null && /^OK [0-9]{1,10}\r?$/.test(line);
  return isOk ? ['ok', stream.toString('hex', line.length + 1)] : ['refused'];
}

/** The result of a listener for a caller's bytes. */
function listen(chunks: readonly Buffer[]): readonly unknown[] {
  const told: unknown[] = [];
  const line = new FirstLine(MAX_CALL_BYTES, (text) => {
    told.push(text);
    if (text !== null) checkLine(text);
    return false;
  });
  const rest = deliver(() => (told.length > 0 ? line : null), line.onread, chunks);
  return typeof told[0] === 'string' ? [...told, rest] : told;
}

/** A word after CONNECT has no white space, and a port is a 32-bit number. */
function checkLine(text: string): void {
  const word = parseConnectLine(text);
  if (word === null) return;
  assert.match(text, /^\s*connect\s+\S+\s*$/i);
  assert.match(word, /^\S+$/);
  const port = parseVsockPort(word);
  if (port !== null) assert.equal(BigInt(word), BigInt(port));
}

/** The result of a caller for an answer. */
function callMux(chunks: readonly Buffer[], isEnd: boolean): readonly unknown[] {
  const told: string[] = [];
  const socket = new EventEmitter();
  Object.assign(socket, { write: () => true, cork: () => undefined, uncork: () => undefined });
  const reading: { onread?: OnRead; answered?: FirstLine } = {};
  askHybridVsock(
    7,
    (given) => {
      reading.onread = given;
      return socket as unknown as net.Socket;
    },
    ({ isOk, isClose, problem }, line) => {
      assert.equal(problem === '', isOk);
      assertShowable(problem);
      told.push(isOk ? 'ok' : isClose ? 'closed' : 'refused');
      reading.answered = line;
      return false;
    },
  );
  assert.ok(reading.onread !== undefined);
  const rest = deliver(() => reading.answered ?? null, reading.onread, chunks);
  if (isEnd) socket.emit('end');
  return told[0] === 'ok' ? [...told, rest] : told;
}

/** Reads like a socket: into the given room, even after a request to pause. Returns the bytes after the line. */
function deliver(lineRead: () => FirstLine | null, onread: OnRead, chunks: readonly Buffer[]): string {
  const rest: Buffer[] = [];
  const keep: OnRead = {
    buffer: () => Buffer.alloc(7),
    callback: (count, buffer) => rest.push(Buffer.from(buffer.subarray(0, count))) > 0,
  };
  for (const [index, chunk] of chunks.entries()) {
    for (let at = 0; at < chunk.length; ) {
      const room = onread.buffer();
      assert.ok(room.length > 0);
      const count = Math.min(room.length, chunk.length - at);
      room.set(chunk.subarray(at, at + count));
      onread.callback(count, room);
      at += count;
    }
    // The split decides when the rest gets a reader.
    if (index % 2 === 1) lineRead()?.handOver(keep);
  }
  lineRead()?.handOver(keep);
  return Buffer.concat(rest).toString('hex');
}

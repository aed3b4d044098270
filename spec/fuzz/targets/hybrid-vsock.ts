/** The lines of hybrid vsock: what a first line means, in both directions, and that no byte after it is lost. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type net from 'node:net';
import { askHybridVsock, parseConnectLine, parseVsockPort } from '../../../lib/channel/vsock-mux.js';
import { FirstLine, type OnRead } from '../../../lib/system/sockets/node-sockets.js';
import { everySplit, FuzzInput } from '../fuzz-input.js';
import { assertShowable } from '../outcome.js';

/** What a listener allows a line to have. */
const MAX_LINE_BYTES = 80;
const MAX_ANSWER_BYTES = 32;

/** Input: flags (1 an answer, else a CONNECT; 2 the socket ends), sizes, what comes from the socket. */
export function fuzzHybridVsock(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const flags = input.byte();
  const sizes = input.sizes();
  const stream = input.rest();
  const isAnswer = (flags & 1) > 0;
  const expected = isAnswer ? plainAnswer(stream, (flags & 2) > 0) : plainLine(stream, MAX_LINE_BYTES);
  for (const chunks of everySplit(stream, sizes)) {
    assert.deepEqual(isAnswer ? ask(chunks, (flags & 2) > 0) : listen(chunks), expected);
  }
}

/** The line in complete input, without its newline; null where it is too long, undefined before its end. */
function lineOf(stream: Buffer, maxBytes: number): string | null | undefined {
  const end = stream.indexOf('\n');
  if (end !== -1 && end < maxBytes) return stream.toString('latin1', 0, end);
  return stream.length >= maxBytes ? null : undefined;
}

function plainLine(stream: Buffer, maxBytes: number): unknown {
  const line = lineOf(stream, maxBytes);
  if (line === undefined) return [];
  if (line === null) return [null];
  return [line, stream.toString('hex', line.length + 1)];
}

function plainAnswer(stream: Buffer, isEnd: boolean): unknown {
  const line = lineOf(stream, MAX_ANSWER_BYTES);
  if (line === undefined) return isEnd ? ['closed'] : [];
  const isOk = line !== null && /^OK [0-9]{1,10}\r?$/.test(line);
  return isOk ? ['ok', stream.toString('hex', line.length + 1)] : ['refused'];
}

/** The result of a listener for a caller's bytes. */
function listen(chunks: readonly Buffer[]): unknown {
  const told: unknown[] = [];
  const line = new FirstLine(MAX_LINE_BYTES, (text) => {
    told.push(text);
    if (text !== null) checkLine(text);
    return false;
  });
  const rest = deliver(() => (told.length > 0 ? line : null), line.onread, chunks);
  return typeof told[0] === 'string' ? [...told, rest] : told;
}

/** A word after CONNECT has no white space, and a port is a number of 32 bits. */
function checkLine(text: string): void {
  const word = parseConnectLine(text);
  if (word === null) return;
  assert.match(text, /^\s*connect\s+\S+\s*$/i);
  assert.match(word, /^\S+$/);
  const port = parseVsockPort(word);
  if (port !== null) assert.equal(BigInt(word), BigInt(port));
}

/** The result of a caller for an answer. */
function ask(chunks: readonly Buffer[], isEnd: boolean): unknown {
  const told: string[] = [];
  const socket = new EventEmitter() as EventEmitter & Record<'write' | 'cork' | 'uncork', () => void>;
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

/**
 * Reads as a socket does: into the room that it is given, also where it was asked to pause. Returns what follows the
 * line.
 */
function deliver(lineRead: () => FirstLine | null, onread: OnRead, chunks: readonly Buffer[]): string {
  const rest: Buffer[] = [];
  const keep: OnRead = {
    buffer: () => Buffer.alloc(7),
    callback(count, buffer) {
      rest.push(Buffer.from(buffer.subarray(0, count)));
      return true;
    },
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
    // The split decides from when on the rest has a reader.
    if (index % 2 === 1) lineRead()?.handOver(keep);
  }
  lineRead()?.handOver(keep);
  return Buffer.concat(rest).toString('hex');
}

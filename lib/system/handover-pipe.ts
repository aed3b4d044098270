/**
 * The pipe between a process and its successor: a pair of unix sockets over which one hands everything to the other, including
 * descriptors, without returning to the event loop. Every call except `receiveNextMessage` blocks this process, for a bounded
 * time.
 *
 * The unit is a parcel: a header of 12 bytes (`VPHO`, the length of the document, the number of descriptors, both 32 bits
 * little-endian), one byte for each group of 253 descriptors, which travel with it, and the document. A message is a parcel
 * without descriptors whose document is a JSON object. The sides take turns: neither sends again before it has an answer.
 */
import type net from 'node:net';
import { constants } from 'node:os';
import { isObject } from '../codec/json.js';
import { systemCode, toVproxyError, VproxyError } from '../errors.js';
import { describeError, escapeText } from '../util/escape.js';
import { systemError } from './libc.js';
import { descriptorOf } from './sockets/node-sockets.js';
import {
  closeAll,
  loadMessageCalls,
  MAX_MESSAGE_DESCRIPTORS,
  type MessageCalls,
  type Received,
} from './unix-messages.js';

/** Limit on a document: 2 GiB. */
const MAX_DOCUMENT_BYTES = 2 ** 31;

/** Limit on the descriptors of a parcel. */
const MAX_DESCRIPTORS = 65_536;

const MAX_MESSAGE_BYTES = 65_536;

/** What a process hands to its successor. */
export interface Parcel {
  readonly document: Buffer;
  /** In the order in which they were sent. The receiver owns them; programs do not inherit them. */
  readonly descriptors: readonly number[];
}

/** A message between the two processes: a plain JSON object. */
export type HandoverMessage = Readonly<Record<string, unknown>>;

/** Loads the system calls for a {@link HandoverPipe}. Rejects with `upgrade-failed` if koffi is missing. */
export async function loadHandoverCalls(load: () => Promise<MessageCalls> = loadMessageCalls): Promise<MessageCalls> {
  try {
    return await load();
  } catch (cause) {
    const message = `handing over needs the optional package koffi, which cannot be loaded (npm install koffi): ${describeError(cause)}`;
    throw new VproxyError('upgrade-failed', message, { cause });
  }
}

/**
 * One end of the pipe. Failures throw `upgrade-failed`, whose cause has the code `EPIPE` if the other process has exited,
 * `ETIMEDOUT` if it did not respond in time, or `EPROTO` if it sent something invalid. The pipe is unusable after that.
 */
export class HandoverPipe {
  readonly #calls: MessageCalls;
  readonly #fd: number;

  /** `fd` stays the caller's. It may be blocking or not. */
  constructor(calls: MessageCalls, fd: number) {
    this.#calls = calls;
    this.#fd = fd;
  }

  /**
   * In the parent: the pipe that a child was started with, usable only in this turn of the event loop, because Node reads the
   * stream in others. Throws if it was closed meanwhile.
   */
  static ofStream(calls: MessageCalls, stream: net.Socket): HandoverPipe {
    const fd = descriptorOf(stream);
    if (fd === null) throw ended('sendmsg');
    return new HandoverPipe(calls, fd);
  }

  /**
   * Sends a document and duplicates of descriptors within `timeoutMs`. The receiver must read meanwhile: only a socket buffer
   * lies in between.
   */
  sendAll(document: Uint8Array, descriptors: readonly number[], timeoutMs: number): void {
    if (document.length > MAX_DOCUMENT_BYTES) {
      throw failure(`document too large: ${document.length} bytes (max ${MAX_DOCUMENT_BYTES})`);
    }
    if (descriptors.length > MAX_DESCRIPTORS) {
      throw failure(`too many descriptors: ${descriptors.length} (max ${MAX_DESCRIPTORS})`);
    }
    const deadline = performance.now() + timeoutMs;
    this.#send(encodeHead(document.length, descriptors.length), [], deadline);
    for (const group of groupsOf(descriptors)) this.#send(ONE_BYTE, group, deadline);
    this.#send(document, [], deadline);
  }

  /** Sends bytes after a document, within `timeoutMs`, without copying. */
  sendPieces(pieces: readonly Uint8Array[], timeoutMs: number): void {
    const deadline = performance.now() + timeoutMs;
    for (const piece of pieces) this.#send(piece, [], deadline);
  }

  /** Receives the next piece, whose length the document gives, into memory of its own. */
  receivePiece(byteCount: number, timeoutMs: number): Buffer {
    return this.#receive(byteCount, [], 0, performance.now() + timeoutMs);
  }

  /** Receives a parcel sent with `sendAll`. If it throws, all received descriptors are closed. */
  receiveAll(timeoutMs: number): Parcel {
    return this.#receiveParcel(MAX_DOCUMENT_BYTES, MAX_DESCRIPTORS, timeoutMs);
  }

  /** Sends a message within `timeoutMs`. */
  sendMessage(message: HandoverMessage, timeoutMs: number): void {
    this.sendAll(encodeMessage(message), [], timeoutMs);
  }

  /** Receives the next message; `timeoutMs` may be Infinity. */
  receiveMessage(timeoutMs: number): HandoverMessage {
    return decodeMessage(this.#receiveParcel(MAX_MESSAGE_BYTES, 0, timeoutMs).document);
  }

  #send(bytes: Uint8Array, descriptors: readonly number[], deadline: number): void {
    for (let sent = 0; sent < bytes.length; ) {
      const rest = bytes.subarray(sent);
      const count = this.#call(() => this.#calls.send(this.#fd, rest, descriptors));
      if (count === null) this.#wait('writable', deadline);
      else sent += count;
    }
  }

  #receiveParcel(maxBytes: number, maxDescriptors: number, timeoutMs: number): Parcel {
    const deadline = performance.now() + timeoutMs;
    const descriptors: number[] = [];
    try {
      const head = decodeHead(this.#receive(HEAD_BYTES, descriptors, 0, deadline));
      if (head.byteCount > maxBytes) throw nonsense(`a document of ${head.byteCount} bytes`);
      if (head.descriptorCount > maxDescriptors) throw nonsense(`${head.descriptorCount} descriptors`);
      while (descriptors.length < head.descriptorCount) {
        const expected = Math.min(head.descriptorCount, descriptors.length + MAX_MESSAGE_DESCRIPTORS);
        this.#receive(1, descriptors, expected, deadline);
      }
      const document = this.#receive(head.byteCount, descriptors, head.descriptorCount, deadline);
      return { document, descriptors };
    } catch (error) {
      closeAll(descriptors);
      throw error;
    }
  }

  /** Receives a number of bytes, and appends the descriptors that come with them; checks that there are `expected` in the end. */
  #receive(byteCount: number, descriptors: number[], expected: number, deadline: number): Buffer {
    const bytes = Buffer.allocUnsafeSlow(byteCount);
    for (let filled = 0; filled < byteCount; ) {
      const room = bytes.subarray(filled);
      const received: Received | null = this.#call(() => this.#calls.receive(this.#fd, room));
      if (received === null) {
        this.#wait('readable', deadline);
        continue;
      }
      descriptors.push(...received.descriptors);
      if (received.isTruncated) throw nonsense('more descriptors than this process may have');
      if (received.byteCount === 0) throw ended('recvmsg');
      filled += received.byteCount;
    }
    if (descriptors.length === expected) return bytes;
    throw nonsense(`${descriptors.length} descriptors, expected ${expected}`);
  }

  #wait(what: 'readable' | 'writable', deadline: number): void {
    if (this.#call(() => this.#calls.wait(this.#fd, what, deadline - performance.now()))) return;
    throw late(what === 'readable' ? 'did not answer' : 'did not read', 'poll');
  }

  #call<Result>(call: () => Result): Result {
    try {
      return call();
    } catch (error) {
      if (['EPIPE', 'ECONNRESET'].includes(systemCode(error))) throw ended('sendmsg');
      throw failure(describeError(error), error);
    }
  }
}

/**
 * The next message on the pipe to a child, read by Node while the event loop runs. After it, the child must be silent until it
 * is sent something. Rejects with `upgrade-failed` if the child exits or sends something else, or when `signal` is aborted.
 */
export function receiveNextMessage(stream: net.Socket, signal: AbortSignal): Promise<HandoverMessage> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    const onData = (piece: Buffer): void => {
      pieces.push(piece);
      try {
        const message = messageOf(Buffer.concat(pieces));
        if (message === null) return;
        resolve(message);
      } catch (error) {
        reject(toVproxyError(error));
      }
      stop();
    };
    const onEnd = (): void => {
      reject(ended('read'));
      stop();
    };
    const onAbort = (): void => {
      reject(late('did not answer', 'read'));
      stop();
    };
    const stop = (): void => {
      stream.off('data', onData).off('end', onEnd).off('close', onEnd).pause();
      signal.removeEventListener('abort', onAbort);
    };
    // `close` follows an error; a later error shows when the pipe is used.
    stream
      .on('error', () => undefined)
      .on('end', onEnd)
      .on('close', onEnd)
      .on('data', onData)
      .resume();
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    else if (stream.destroyed) onEnd();
  });
}

// The wire format.

const MAGIC = Buffer.from('VPHO');
const HEAD_BYTES = 12;
const ONE_BYTE = Buffer.alloc(1);

function encodeHead(byteCount: number, descriptorCount: number): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  MAGIC.copy(head);
  head.writeUInt32LE(byteCount, 4);
  head.writeUInt32LE(descriptorCount, 8);
  return head;
}

function decodeHead(head: Buffer): { byteCount: number; descriptorCount: number } {
  if (!head.subarray(0, 4).equals(MAGIC)) throw nonsense('an unknown format');
  return { byteCount: head.readUInt32LE(4), descriptorCount: head.readUInt32LE(8) };
}

/** A parcel without descriptors, to be written to the stream of a child between two of its messages. */
export const encodeParcel = (document: Uint8Array): Buffer => Buffer.concat([encodeHead(document.length, 0), document]);

/** Splits descriptors into messages. */
function groupsOf(descriptors: readonly number[]): number[][] {
  const groups: number[][] = [];
  for (let start = 0; start < descriptors.length; start += MAX_MESSAGE_DESCRIPTORS) {
    groups.push(descriptors.slice(start, start + MAX_MESSAGE_DESCRIPTORS));
  }
  return groups;
}

const encodeMessage = (message: HandoverMessage): Buffer => Buffer.from(JSON.stringify(message));

function decodeMessage(document: Buffer): HandoverMessage {
  let value: unknown;
  try {
    value = JSON.parse(document.toString());
  } catch {
    value = null;
  }
  if (isObject(value)) return value;
  throw nonsense(`an invalid message: ${escapeText(document.toString('utf8', 0, 100))}`);
}

/** The message received so far; null if incomplete. */
function messageOf(bytes: Buffer): HandoverMessage | null {
  if (bytes.length < HEAD_BYTES) return null;
  const { byteCount, descriptorCount } = decodeHead(bytes.subarray(0, HEAD_BYTES));
  if (byteCount > MAX_MESSAGE_BYTES || descriptorCount > 0) throw nonsense('an invalid message');
  const length = HEAD_BYTES + byteCount;
  return bytes.length < length ? null : decodeMessage(bytes.subarray(HEAD_BYTES));
}

// Failures.

const ended = (call: string): VproxyError =>
  failure('the other process ended', systemError(call, constants.errno.EPIPE));

const late = (does: string, call: string): VproxyError =>
  failure(`the other process ${does} in time`, systemError(call, constants.errno.ETIMEDOUT));

const nonsense = (what: string): VproxyError =>
  failure(`the other process sent ${what}`, systemError('recvmsg', constants.errno.EPROTO));

function failure(message: string, cause?: unknown): VproxyError {
  return new VproxyError('upgrade-failed', `cannot hand over: ${message}`, cause === undefined ? {} : { cause });
}

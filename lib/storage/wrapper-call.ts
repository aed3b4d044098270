/** One call of a wrapper, as the broker sees it: reads the request, notices a wrapper that disconnects, and answers. */

import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../errors.js';
import { Budget } from '../util/bounds.js';
import { JsonScanner } from '../util/bytes/json-scanner.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { decodeRequest, encodeFailure, MAX_REQUEST_BYTES } from './wire.js';

/** How long a wrapper may take to send its request, in milliseconds. */
const REQUEST_TIMEOUT_MS = 10_000;
/** How long a wrapper may take to fetch its answer, in milliseconds. */
const ANSWER_TIMEOUT_MS = 60_000;
/** How often a wrapper that has closed its sending side is probed, in milliseconds. */
const PROBE_INTERVAL_MS = 1000;

/** The events of a call, for the broker. */
export interface WrapperCallEvents {
  /** The request is complete. */
  onRequest(call: WrapperCall): void;
  /** Instead of a request came this failure; the wrapper has been told. */
  onBadRequest(error: VproxyError): void;
  /** The socket is gone, answered or not. Comes once, last. */
  onClosed(call: WrapperCall): void;
}

/** One wrapper at the broker's socket. */
export class WrapperCall {
  /** What the call holds in memory: a part of what all calls may hold together, until it is closed. */
  readonly budget: Budget;
  readonly #socket: Duplex;
  readonly #clock: Clock;
  readonly #events: WrapperCallEvents;
  readonly #scanner = new JsonScanner(MAX_REQUEST_BYTES, 'storage-bad-request', 'the storage request');
  #argv: readonly string[] = [];
  #state: 'reading' | 'waiting' | 'answered' = 'reading';
  #cancelTimer: CancelTimer;

  /** Takes the socket over. `all` is the budget of all calls. */
  constructor(socket: Duplex, clock: Clock, all: Budget, events: WrapperCallEvents) {
    this.budget = new Budget(Number.POSITIVE_INFINITY, all);
    this.#socket = socket;
    this.#clock = clock;
    this.#events = events;
    this.#cancelTimer = clock.schedule(REQUEST_TIMEOUT_MS, () =>
      this.#refuse(new VproxyError('storage-bad-request', 'the storage request was not complete in time')),
    );
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('end', () => this.#handleEnd());
    // An error is followed by `close`, and means only that the socket is gone.
    socket.on('error', () => undefined);
    socket.on('close', () => this.#close());
  }

  /** The command line; empty until the request is complete. */
  get argv(): readonly string[] {
    return this.#argv;
  }

  /** Answers with an encoded reply or failure, and ends the connection. */
  answer(message: Buffer): void {
    this.#state = 'answered';
    this.#startTimer(ANSWER_TIMEOUT_MS, () => this.#socket.destroy());
    this.#socket.end(message);
  }

  /** Answers with a failure. */
  fail(error: VproxyError): void {
    this.answer(encodeFailure(error));
  }

  #read(chunk: Buffer): void {
    // Whatever follows a request is dropped; it is read so that the end is noticed.
    if (this.#state !== 'reading') return;
    this.#attempt(() => {
      if (!this.budget.reserve(chunk.length))
        throw new VproxyError('storage-unavailable', 'too many bytes of calls are held');
      this.#scanner.push(chunk);
      return this.#scanner.next();
    });
  }

  #handleEnd(): void {
    if (this.#state === 'reading') {
      const rest = this.#scanner.isEmpty ? undefined : () => this.#scanner.end();
      if (rest) this.#attempt(rest);
      else this.#socket.destroy();
    }
    if (this.#isWaiting()) this.#probe();
  }

  // The compiler assumes that the state does not change in a call.
  #isWaiting(): boolean {
    return this.#state === 'waiting';
  }

  /**
   * The end of a stream may be a wrapper that disconnected or one that only closed its sending side. White space before
   * a JSON text means nothing to its reader, and cannot be written to a socket whose other end is gone.
   */
  #probe(): void {
    this.#socket.write(' ');
    this.#startTimer(PROBE_INTERVAL_MS, () => this.#probe());
  }

  #attempt(step: () => Buffer | undefined): void {
    try {
      const message = step();
      if (message === undefined) return;
      this.#argv = decodeRequest(message).argv;
    } catch (error) {
      this.#refuse(toVproxyError(error));
      return;
    }
    this.#state = 'waiting';
    this.#cancelTimer();
    this.#events.onRequest(this);
  }

  #refuse(error: VproxyError): void {
    this.fail(error);
    this.#events.onBadRequest(error);
  }

  #startTimer(delayMs: number, callback: () => void): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#clock.schedule(delayMs, callback);
  }

  #close(): void {
    this.#cancelTimer();
    this.budget.release(this.budget.usedBytes);
    this.#events.onClosed(this);
  }
}

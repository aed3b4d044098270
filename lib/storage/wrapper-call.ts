/** The broker's end of a wrapper's call: reads the request, detects a disconnect, and answers. */
import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../errors.js';
import { Budget } from '../util/bounds.js';
import { JsonScanner } from '../util/bytes/json-scanner.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { decodeRequest, encodeFailure, MAX_REQUEST_BYTES } from './wire.js';

const REQUEST_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 60_000;
/** Interval of probes to a half-closed wrapper. */
const PROBE_INTERVAL_MS = 1000;

export interface WrapperCallEvents {
  onRequest(call: WrapperCall): void;
  /** The request was invalid; the wrapper has been answered with this error. */
  onBadRequest(error: VproxyError): void;
  /** The socket has closed, answered or not. Called once, last. */
  onClosed(call: WrapperCall): void;
}

/** One wrapper at the broker's socket. */
export class WrapperCall {
  /** Bytes that the call buffers, until it is closed: part of the budget of all calls. */
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
      this.#refuse(
        new VproxyError('storage-bad-request', `no complete storage request within ${REQUEST_TIMEOUT_MS / 1000} s`),
      ),
    );
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('end', () => this.#handleEnd());
    // An error is followed by `close`, which handles it.
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

  fail(error: VproxyError): void {
    this.answer(encodeFailure(error));
  }

  #read(chunk: Buffer): void {
    // Discard data after the request; it is read only to detect the end.
    if (this.#state !== 'reading') return;
    this.#attempt(() => {
      if (!this.budget.reserve(chunk.length))
        throw new VproxyError('storage-unavailable', 'too many bytes buffered for storage calls');
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

  // A method, because the compiler assumes that calls do not change the state.
  #isWaiting(): boolean {
    return this.#state === 'waiting';
  }

  /**
   * EOF may mean that the wrapper disconnected or only half-closed. Writes white space, which a JSON reader ignores, and
   * which fails if the wrapper is gone.
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

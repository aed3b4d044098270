/** A stream that talks to a proxy: it is read and written here until it ends, or until a splice takes it over. */
import { toVproxyError, VproxyError } from '../../errors.js';
import { GIVE_UP_MS, type LocalEnd } from '../../session/local-end.js';
import { SENT } from '../../session/send-buffer.js';
import type { SessionStream } from '../../session/stream.js';
import { ByteQueue, dropView } from '../../util/bytes/byte-queue.js';
import { type CancelTimer, type Clock, sleep } from '../../util/clock.js';
import { Change, deferred, LoopTurns } from '../../util/concurrency.js';
import { refuseBeyond, type Target, type TargetContext } from '../endpoint-kind.js';
import type { Splice } from '../splice.js';
import type { Reached } from './dial.js';
import type { ByteSource } from './message.js';
import type { Kept, OriginEnding } from './origin.js';
import type { Refusal } from './refusal.js';
import type { ProxyRequest, RequestForm } from './request.js';
import type { Destination, EgressRules } from './rules.js';

export interface ConversationContext {
  /** The current rules; changed rules are another object. */
  rules(): EgressRules | null;
  /** Rejects with a {@link Refusal}, or if the program has gone away. */
  dial(destination: Destination): Promise<Reached>;
  onRefused(refusal: Refusal): void;
  /** A connection to an origin server is closed. */
  onLeft(reached: Reached, ending: OriginEnding): void;
  /** What requests look like, from the program and to the origin server. */
  readonly requests: RequestForm;
  /** The connections to origin servers that are kept for the next requests of a conversation. */
  kept(): Kept;
  /** A request was sent to its origin server, and its answer or failure passed on. Default: no callback. */
  onExchanged?(request: ProxyRequest, exchange: Exchange): void;
}

/** What passed between a program and an origin server for one request. */
export interface Exchange {
  /** The status of the final answer; null if there was none. */
  readonly status: number | null;
  /** The bytes of the two bodies. */
  readonly uploadedBytes: number;
  readonly downloadedBytes: number;
  /** Null if the answer is whole; else `cancelled` (the program has gone away) or `local-error` (the origin server failed). */
  readonly code: 'cancelled' | 'local-error' | null;
}

/** No further request has come, which is not an error. */
export class NoRequest extends Error {}

/** The destination that a program asked for, connected. */
export interface TunnelOffer {
  readonly reached: Reached;
  /** Sent to the program before any byte of the destination. */
  readonly answer: Buffer;
}

/** A tunnel to splice with the stream. */
export interface Tunnel extends TunnelOffer {
  /** Bytes after the request, for the destination. */
  readonly rest: Buffer;
}

/**
 * The local end of the stream. Unread bytes wait here, within the stream's window: credit for a piece is returned when the next
 * one is requested, so a conversation that waits for something else stops only its own stream.
 */
export class Conversation implements LocalEnd, ByteSource {
  readonly stream: SessionStream;
  /** Whether the conversation has nothing in progress: a program that continues may as well reconnect. */
  isIdle = false;
  /** Whether its service is no longer offered: the request in progress is the last. */
  isLeaving = false;
  /** Whether an upgrade waits: the next answer is the last. */
  isWaitedFor = false;
  /** Called once the program has gone away, before `gone` is aborted. */
  onGone: (() => void) | null = null;
  /** Whether the program was redirected: it does not wait for an answer, so it may have ended its direction before. */
  isRedirected = false;
  readonly #clock: Clock;
  readonly #turns: LoopTurns;
  readonly #gone = new AbortController();
  readonly #left = new AbortController();
  readonly #waiting = new ByteQueue();
  /** The size of the piece read last. */
  #lentBytes = 0;
  #isLentView = false;
  #hasFin = false;
  /** Why reading has ended. */
  #readFailure: Error | null = null;
  #cancelDeadline: CancelTimer | null = null;
  /** Bytes came, or reading has ended. */
  readonly #came = new Change();
  /** Written bytes have been sent, or the program has gone away. */
  readonly #sent = new Change();
  #splice: Splice | null = null;
  readonly #over = deferred<VproxyError | null>();
  /** Resolves when the stream has ended; null if both directions ended in order. Never resolves after a splice took over. */
  readonly over = this.#over.promise;

  /** `turns` are shared by all conversations of a target. */
  constructor(stream: SessionStream, clock: Clock, turns: LoopTurns) {
    this.stream = stream;
    this.#clock = clock;
    this.#turns = turns;
  }

  /** Aborted with the reason once the stream has ended, or its program takes nothing more. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** Aborted once the program has ended its direction, too: it is hardly there to see what somebody decides later. */
  get left(): AbortSignal {
    return this.#left.signal;
  }

  get unreadBytes(): number {
    return this.#waiting.byteCount;
  }

  /** To be asked before each request and each piece of a body, so that others have their turns. */
  nextTurn(): Promise<void> | null {
    return this.#turns.nextTurn();
  }

  /** Rejects if the program has gone away, or with the error of a missed deadline. */
  async read(): Promise<Buffer | null> {
    this.#release(this.#lentBytes);
    for (;;) {
      if (this.#readFailure !== null) throw this.#readFailure;
      const block = this.#waiting.shift();
      if (block !== null) {
        this.#lentBytes = block.bytes.length;
        this.#isLentView = block.isView;
        return block.bytes;
      }
      if (this.#hasFin) return null;
      await this.#came.next();
    }
  }

  /** Makes `read` fail after a time, unless the expectation changes before. */
  expectWithin(delayMs: number, failure: () => Error): void {
    this.expectNothing();
    this.#cancelDeadline = this.#clock.schedule(delayMs, () => this.#failReads(failure()));
  }

  /** Cancels the deadline. */
  expectNothing(): void {
    this.#cancelDeadline?.();
    this.#cancelDeadline = null;
  }

  /** Resolves once the channel has taken the bytes (not empty, owned by it from now on). Rejects if the program has gone away. */
  async write(bytes: Buffer): Promise<void> {
    this.#gone.signal.throwIfAborted();
    if (this.stream.send(bytes, 0, bytes.length, false) !== SENT.WAITING) return;
    await this.#sent.next();
    this.#gone.signal.throwIfAborted();
  }

  /** Ends the stream after everything written. Drops what the program still sends, and gives it some time to end. */
  close(): void {
    this.#failReads(new VproxyError('cancelled', 'the conversation is over'));
    this.isIdle = true;
    if (!this.#hasFin)
      this.#cancelDeadline = this.#clock.schedule(GIVE_UP_MS, () => this.reset('the program did not close its side'));
    this.#dropWaiting();
    // Stop before finishing, so that the program is not cut off from data sent to it.
    this.stream.stop('cancelled', 'the conversation is over');
    this.stream.finish();
  }

  /** Ends it if it is idle, after everything written: the program may not have read its latest answer. False if it has ended. */
  endIdle(): boolean {
    if (!this.isIdle || this.#readFailure !== null) return false;
    this.#failReads(new NoRequest());
    this.close();
    return true;
  }

  /** Ends both directions now. */
  reset(why: string): void {
    this.stream.reset('local-error', why);
  }

  /** Lets a joined splice continue, with `rest` (the end of the latest read) and everything after it. */
  handOver(splice: Splice, rest: Buffer): void {
    this.#splice = splice;
    this.#lentBytes -= rest.length;
    if (rest.length > 0) splice.handleData(rest);
    this.#release(this.#lentBytes);
    for (let block = this.#waiting.shift(); block !== null; block = this.#waiting.shift()) {
      splice.handleData(block.bytes);
      if (block.isView) dropView();
    }
    if (this.#hasFin) splice.handleFin();
  }

  #release(bytes: number): void {
    if (this.#isLentView) dropView();
    this.#isLentView = false;
    this.#lentBytes = 0;
    if (bytes > 0) this.stream.release(bytes);
  }

  #dropWaiting(): void {
    const bytes = this.#lentBytes + this.#waiting.byteCount;
    this.#waiting.clear();
    this.#release(bytes);
  }

  #failReads(error: Error): void {
    this.expectNothing();
    this.#readFailure ??= error;
    this.#came.announce();
  }

  #leave(reason: VproxyError): void {
    this.onGone?.();
    this.onGone = null;
    this.#gone.abort(reason);
    this.#left.abort(reason);
    this.#failReads(reason);
    this.#dropWaiting();
    this.#sent.announce();
  }

  // ---- for the stream -------------------------------------------------------------------------------------------

  listHeld(): readonly Buffer[] {
    return this.#waiting.list();
  }

  handleData(bytes: Buffer): boolean {
    if (this.#splice !== null) return this.#splice.handleData(bytes);
    if (this.#readFailure !== null) {
      this.stream.release(bytes.length);
      return false;
    }
    const isKept = this.#waiting.push(bytes);
    this.#came.announce();
    return isKept;
  }

  handleFin(): void {
    if (this.#splice !== null) {
      this.#splice.handleFin();
      return;
    }
    this.#hasFin = true;
    this.#left.abort(new VproxyError('cancelled', 'the program has ended its direction'));
    if (this.#readFailure !== null) this.expectNothing();
    this.#came.announce();
  }

  handleStop(reason: VproxyError): void {
    if (this.#splice === null) this.#leave(reason);
    else this.#splice.handleStop(reason);
  }

  handleSent(isFree: boolean): void {
    if (this.#splice === null) this.#sent.announce();
    else this.#splice.handleSent(isFree);
  }

  handleEnd(reason: VproxyError | null): void {
    if (this.#splice !== null) {
      this.#splice.handleEnd(reason);
      return;
    }
    this.#leave(reason ?? new VproxyError('cancelled', 'the stream has ended'));
    this.#over.resolve(reason);
  }
}

/** While an upgrade waits for conversations, others wait for this time, and then begin for as long, in milliseconds. */
const HELD_MS = 1000;

/** A target that converses with programs, until a splice takes their stream over. */
export abstract class ConversingTarget implements Target {
  protected readonly context: TargetContext;
  readonly #open = new Set<Conversation>();
  readonly #turns = new LoopTurns();
  #heldUntilMs = Number.NEGATIVE_INFINITY;

  constructor(context: TargetContext) {
    this.context = context;
  }

  get openCount(): number {
    return this.#open.size;
  }

  abstract serve(stream: SessionStream): void;

  /**
   * Accepts the stream at once, unless an upgrade waits or `openCount` is the limit: success or failure is part of the
   * conversation. `converse` resolves with true once a splice has taken the stream over.
   */
  protected begin(stream: SessionStream, converse: (guest: Conversation) => Promise<boolean>): void {
    const { clock, maxStreams } = this.context;
    if (refuseBeyond(stream, this.openCount, maxStreams)) return;
    const guest = new Conversation(stream, clock, this.#turns);
    this.#open.add(guest);
    stream.attach(guest);
    void this.#hold(guest, converse);
  }

  async #hold(guest: Conversation, converse: (guest: Conversation) => Promise<boolean>): Promise<void> {
    const { clock, log } = this.context;
    const { stream } = guest;
    const waitMs = this.#heldUntilMs - clock.now();
    if (waitMs > 0) await sleep(clock, waitMs, guest.gone);
    if (!stream.isOver) {
      stream.accept();
      log.opened(stream);
    }
    try {
      if (await converse(guest)) return;
    } catch (error) {
      const { code, message } = toVproxyError(error);
      stream.reset(code, message);
    }
    const reason = await guest.over;
    this.#open.delete(guest);
    this.context.onClosed(stream, reason);
    this.context.onLeft?.();
  }

  /** A splice takes the stream over. */
  protected remove(guest: Conversation): void {
    this.#open.delete(guest);
  }

  /**
   * Those that a successor cannot take over, as it can unanswered ones; end the idle ones before: their programs open others for
   * the next request.
   */
  endedByPeer(): number[] {
    return [...this.#open].flatMap(({ isIdle, stream }) => (isIdle || !stream.isAnswered ? [] : stream.id));
  }

  /** The same, human-readable. */
  get obstacles(): string[] {
    return this.endedByPeer().map((id) => `stream ${id} to ${this.context.name}, which is not a tunnel`);
  }

  get unansweredCount(): number {
    return [...this.#open].filter(({ stream }) => !stream.isAnswered).length;
  }

  /** Lets requests in progress end, but no further one begin: it may no longer be allowed. */
  pause(): void {
    for (const guest of this.#open) guest.isLeaving = true;
    this.#endIdle();
  }

  #endIdle(): boolean {
    return [...this.#open].filter((guest) => guest.endIdle()).length > 0;
  }

  letWait(isLast: boolean): boolean {
    const nowMs = this.context.clock.now();
    if (this.#open.size > 0 && nowMs >= this.#heldUntilMs + HELD_MS) {
      this.#heldUntilMs = nowMs + HELD_MS;
      for (const guest of this.#open) guest.isWaitedFor = true;
    }
    return isLast && this.#endIdle();
  }

  /** Resets everything that is open. */
  stop(): void {
    for (const guest of this.#open) guest.reset('the service was stopped');
  }
}

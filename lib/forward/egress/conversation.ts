/** A stream whose bytes are a conversation with a proxy: read and written here, until a splice takes the stream over or it ends. */
import { VproxyError } from '../../errors.js';
import { GIVE_UP_MS, type LocalEnd } from '../../session/local-end.js';
import { SENT } from '../../session/send-buffer.js';
import type { SessionStream } from '../../session/stream.js';
import { ByteQueue, dropView } from '../../util/bytes/byte-queue.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { Change, type LoopTurns } from '../../util/concurrency.js';
import type { Splice } from '../splice.js';
import type { Destination } from './admission.js';
import type { Reached } from './dial.js';
import type { ByteSource } from './message.js';
import type { KeptTogether, OriginEnding } from './origin.js';
import type { Refusal } from './refusal.js';
import type { EgressRules } from './rules.js';

/** What a conversation gets from its target. */
export interface ConversationContext {
  /** The rules of the moment: other ones are another object. */
  rules(): EgressRules | null;
  /** Rejects with a {@link Refusal}, and where the program is gone. */
  dial(destination: Destination): Promise<Reached>;
  /** A request is refused. */
  onRefused(refusal: Refusal): void;
  /** A connection to an origin server is closed. */
  onLeft(reached: Reached, ending: OriginEnding): void;
  /** The connections that all conversations of the target keep. */
  readonly keptTogether: KeptTogether;
}

/** What a program asked to be connected to. */
export interface TunnelOffer {
  readonly reached: Reached;
  /** What the program is sent before anything of the destination. */
  readonly answer: Buffer;
}

/** What a stream is to be spliced with. */
export interface Tunnel extends TunnelOffer {
  /** What came behind the request, which goes to the destination. */
  readonly rest: Buffer;
}

/**
 * The local end of the stream. What came and was not read yet waits here, within the stream's window: credit goes back for a piece
 * when the next one is asked for, so a conversation that waits for something else stops its stream and nothing else.
 */
export class Conversation implements LocalEnd, ByteSource {
  readonly stream: SessionStream;
  /** Resolved when the stream is over: null when both directions ended in order. Never where a splice has taken it over. */
  readonly over: Promise<VproxyError | null>;
  /** Whether the conversation has nothing in progress: a program that continues may as well reconnect. */
  isIdle = false;
  readonly #clock: Clock;
  readonly #turns: LoopTurns;
  readonly #gone = new AbortController();
  readonly #waiting = new ByteQueue();
  /** The piece that was read last. */
  #lentBytes = 0;
  #isLentView = false;
  #hasFin = false;
  /** Why nothing is read any more. */
  #readFailure: Error | null = null;
  #cancelDeadline: CancelTimer | null = null;
  /** Something came, or nothing more is to be read. */
  readonly #came = new Change();
  /** What was written has been sent, or the program is gone. */
  readonly #sent = new Change();
  #splice: Splice | null = null;
  #resolveOver!: (reason: VproxyError | null) => void;

  /** `turns` are those of all conversations of a target together. */
  constructor(stream: SessionStream, clock: Clock, turns: LoopTurns) {
    this.stream = stream;
    this.#clock = clock;
    this.#turns = turns;
    this.over = new Promise((resolve) => {
      this.#resolveOver = resolve;
    });
  }

  /** Aborted, with why, when the stream is over, or its program takes nothing more. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** What came and was not read, in bytes. */
  get unreadBytes(): number {
    return this.#waiting.byteCount;
  }

  /** To be awaited before each request, and each piece of a body: others have their turns in between. */
  nextStep(): Promise<void> | null {
    return this.#turns.next();
  }

  /** Rejects where the program is gone, and with the error of a deadline that has passed. */
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

  /** Has `read` fail after a time, unless something else is expected by then. */
  expectWithin(delayMs: number, error: Error): void {
    this.expectNothing();
    this.#cancelDeadline = this.#clock.schedule(delayMs, () => this.#failReads(error));
  }

  /** What comes may take its time. */
  expectNothing(): void {
    this.#cancelDeadline?.();
    this.#cancelDeadline = null;
  }

  /** Resolves when the channel has taken the bytes, which are not empty and its own from now on. Rejects where the program is gone. */
  async write(bytes: Buffer): Promise<void> {
    this.#gone.signal.throwIfAborted();
    if (this.stream.send(bytes, 0, bytes.length, false) !== SENT.WAITING) return;
    await this.#sent.next();
    this.#gone.signal.throwIfAborted();
  }

  /** Ends the stream behind what was written; what the program still sends is nobody's, and it has some time to end. */
  close(): void {
    this.#failReads(new VproxyError('cancelled', 'the conversation is over'));
    this.isIdle = true;
    if (!this.#hasFin)
      this.#cancelDeadline = this.#clock.schedule(GIVE_UP_MS, () => this.reset('the program did not close its side'));
    this.#dropWaiting();
    // Asked for before the end, so that the program is not cut off from what it was sent.
    this.stream.stop('cancelled', 'the conversation is over');
    this.stream.finish();
  }

  /** Ends both directions now. */
  reset(why: string): void {
    this.stream.reset('local-error', why);
  }

  /** Has a splice, which has been joined, go on: with `rest`, the end of what was read last, and all that comes behind it. */
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
    this.#gone.abort(reason);
    this.#failReads(reason);
    this.#dropWaiting();
    this.#sent.announce();
  }

  // ---- for the stream -------------------------------------------------------------------------------------------

  handleAccept(): void {
    // This side never opens one.
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
    this.#resolveOver(reason);
  }
}

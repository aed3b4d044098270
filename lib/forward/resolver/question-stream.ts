/** A stream of DNS questions, as over TCP: several at once, answered in any order (RFC 7766). */
import { toVproxyError, type VproxyError } from '../../errors.js';
import type { LocalEnd } from '../../session/local-end.js';
import { SENT } from '../../session/send-buffer.js';
import type { SessionStream } from '../../session/stream.js';
import { frameMessage, MessageFrames } from '../../system/dns/message-frames.js';
import { Budget, type TokenBucket } from '../../util/bounds.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import type { LoopTurns } from '../../util/concurrency.js';
import { MAX_QUESTION_BYTES } from './resolver.js';

/** Limit on questions of one stream in progress; later ones wait at the peer. */
const MAX_AT_ONCE = 16;

/** Limit on unread answers of one stream, in bytes: four of the longest. */
const MAX_UNREAD_BYTES = 262_144;

/** An idle stream is ended after this time, and reset after the same time again (RFC 7766, section 6.2.3). */
const IDLE_MS = 10_000;

/** The pause of a stream that exceeds the question rate. */
const PACE_MS = 10;

interface QuestionStreamOptions {
  readonly clock: Clock;
  /** The question rate of all streams together. */
  readonly bucket: TokenBucket;
  /** Turns, shared with all others, in which questions are read and answered. */
  readonly turns: LoopTurns;
  /** Budget for unread answers of all streams together. */
  readonly unread: Budget;
  /** Answers a question; null for no answer. Never rejects. */
  readonly answer: (question: Buffer) => Promise<Buffer | null>;
  /** The stream has ended; called once. */
  readonly onDone: (reason: VproxyError | null) => void;
}

export class QuestionStream implements LocalEnd {
  readonly #stream: SessionStream;
  readonly #options: QuestionStreamOptions;
  readonly #frames = new MessageFrames(MAX_QUESTION_BYTES);
  /** Answers that wait until the previous one is sent. */
  readonly #answers: Buffer[] = [];
  readonly #unread: Budget;
  #sendingBytes = 0;
  #inFlight = 0;
  /** Whether the next question waits for its turn. */
  #isAsking = false;
  #hasPeerEnded = false;
  #isEnding = false;
  #cancelIdle: CancelTimer | null = null;
  #cancelPace: CancelTimer | null = null;

  constructor(stream: SessionStream, options: QuestionStreamOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#unread = new Budget(MAX_UNREAD_BYTES, options.unread);
    this.#startIdle();
  }

  handleData(bytes: Buffer): boolean {
    this.#frames.push(bytes);
    this.#ask();
    return false;
  }

  handleFin(): void {
    this.#hasPeerEnded = true;
    this.#ask();
  }

  handleStop(): void {
    this.#stream.reset('cancelled', 'the peer no longer reads the answers');
  }

  handleSent(): void {
    this.#startIdle();
    this.#sendingBytes = 0;
    this.#sendOn();
    this.#countUnread();
    this.#ask();
  }

  handleEnd(reason: VproxyError | null): void {
    this.#cancelIdle?.();
    this.#cancelPace?.();
    this.#answers.length = 0;
    this.#sendingBytes = 0;
    this.#countUnread();
    // Half a question would hold the stream for ever.
    this.#stream.release(this.#stream.unreadBytes);
    this.#options.onDone(reason);
  }

  /** Starts answering received questions, as far as the limits allow. */
  #ask(): void {
    if (this.#isAsking) return;
    this.#isAsking = true;
    // A known answer is sent before the next question is taken.
    void this.#options.turns.run(() => this.#askOne()).then((hasAsked) => hasAsked && this.#ask());
  }

  /** Takes a question; false if there is none or a limit is reached. */
  #askOne(): boolean {
    this.#isAsking = false;
    if (this.#stream.isOver || this.#isEnding || this.#stream.isWaiting) return false;
    if (this.#inFlight + this.#answers.length >= MAX_AT_ONCE) return false;
    if (!this.#options.bucket.has(this.#options.clock.now(), 1)) {
      this.#cancelPace?.();
      this.#cancelPace = this.#options.clock.schedule(PACE_MS, () => this.#ask());
      return false;
    }
    const question = this.#next();
    if (question === null) {
      this.#endIfDone();
      return false;
    }
    this.#options.bucket.take(this.#options.clock.now());
    this.#startIdle();
    this.#stream.release(2 + question.length);
    this.#inFlight += 1;
    void this.#options.answer(question).then((answer) => this.#answered(answer));
    return true;
  }

  #next(): Buffer | null {
    try {
      return this.#frames.next();
    } catch (error) {
      const { code, message } = toVproxyError(error);
      this.#stream.reset(code, message);
      return null;
    }
  }

  #answered(answer: Buffer | null): void {
    this.#inFlight -= 1;
    if (this.#stream.isOver) return;
    if (answer !== null) this.#answers.push(frameMessage(answer));
    this.#sendOn();
    if (this.#countUnread()) this.#ask();
    else this.#stream.reset('stalled', 'too many unread answers');
  }

  /** Updates the budget for unread answers; false if it is exceeded. */
  #countUnread(): boolean {
    const bytes = this.#answers.reduce((sum, { length }) => sum + length, this.#sendingBytes);
    return this.#unread.reserve(bytes - this.#unread.usedBytes);
  }

  #sendOn(): void {
    while (!this.#stream.isOver && !this.#stream.isWaiting) {
      const answer = this.#answers.shift();
      if (answer === undefined) return;
      const sent = this.#stream.send(answer, 0, answer.length, false);
      this.#sendingBytes = sent === SENT.WAITING ? answer.length : 0;
    }
  }

  /** Called if no whole question is held: ends the stream once the peer has ended it and got all answers. */
  #endIfDone(): void {
    if (this.#hasPeerEnded && !this.#stream.isOver && this.#inFlight === 0 && !this.#stream.isWaiting) this.#end();
  }

  #end(): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#stream.finish();
  }

  #startIdle(): void {
    this.#cancelIdle?.();
    this.#cancelIdle = this.#options.clock.schedule(IDLE_MS, () => {
      if (this.#isEnding || this.#answers.length > 0 || this.#stream.isWaiting) {
        this.#stream.reset('stalled', `no progress for ${IDLE_MS / 1000} s`);
        return;
      }
      if (this.#inFlight === 0) this.#end();
      this.#startIdle();
    });
  }
}

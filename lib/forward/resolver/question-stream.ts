/** A stream of questions, as by TCP: several at once, answered as the answers come (RFC 7766). */
import { toVproxyError, type VproxyError } from '../../errors.js';
import type { LocalEnd } from '../../session/local-end.js';
import { SENT } from '../../session/send-buffer.js';
import type { SessionStream } from '../../session/stream.js';
import { frameMessage, MessageFrames } from '../../system/dns/message-frames.js';
import { Budget, type TokenBucket } from '../../util/bounds.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import type { LoopTurns } from '../../util/concurrency.js';
import { MAX_QUESTION_BYTES } from './resolver.js';

/** Questions of one stream that are worked on at once; what comes behind them waits at the peer. */
const MAX_AT_ONCE = 16;

/** Answers of one stream that wait to be read, in bytes: four of the longest. */
const MAX_UNREAD_BYTES = 262_144;

/** A stream on which nothing moves is ended after this time, and reset after as much again (RFC 7766, section 6.2.3). */
const IDLE_MS = 10_000;

/** The pause of a stream that asks faster than it may. */
const PACE_MS = 10;

interface QuestionStreamOptions {
  readonly clock: Clock;
  /** Questions that may be asked now, of all streams together. */
  readonly bucket: TokenBucket;
  /** Where questions are taken and answered, in turns with all others. */
  readonly turns: LoopTurns;
  /** What answers of all streams that wait to be read may take together. */
  readonly unread: Budget;
  /** The answer to a question; null where there is none. Never rejects. */
  readonly answer: (question: Buffer) => Promise<Buffer | null>;
  /** The stream is over; called once. */
  readonly onDone: (reason: VproxyError | null) => void;
}

export class QuestionStream implements LocalEnd {
  readonly #stream: SessionStream;
  readonly #options: QuestionStreamOptions;
  readonly #frames = new MessageFrames(MAX_QUESTION_BYTES);
  /** Answers that wait for the one before them to be sent. */
  readonly #answers: Buffer[] = [];
  readonly #unread: Budget;
  /** The one that is being sent. */
  #sendingBytes = 0;
  #inFlight = 0;
  /** Whether the next question waits for its slice of time. */
  #isAsking = false;
  #hasPeerEnded = false;
  #isEnding = false;
  #isOver = false;
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

  /** Nobody reads the answers. */
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
    this.#isOver = true;
    this.#cancelIdle?.();
    this.#cancelPace?.();
    this.#answers.length = 0;
    this.#sendingBytes = 0;
    this.#countUnread();
    this.#options.onDone(reason);
  }

  handleAccept(): void {
    // This side never opens one.
  }

  /** Has what came answered, as far as it may be now. */
  #ask(): void {
    if (this.#isAsking) return;
    this.#isAsking = true;
    // An answer that is known goes before the next question is taken.
    void this.#options.turns.run(() => this.#askOne()).then((hasAsked) => hasAsked && this.#ask());
  }

  /** Takes a question; false where there is none, or none may be taken now. */
  #askOne(): boolean {
    this.#isAsking = false;
    if (this.#isOver || this.#isEnding || this.#stream.isWaiting) return false;
    if (this.#inFlight + this.#answers.length >= MAX_AT_ONCE) return false;
    if (!this.#options.bucket.has(this.#options.clock.now(), 1)) {
      this.#askLater();
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

  #askLater(): void {
    this.#cancelPace?.();
    this.#cancelPace = this.#options.clock.schedule(PACE_MS, () => this.#ask());
  }

  #answered(answer: Buffer | null): void {
    this.#inFlight -= 1;
    if (this.#isOver) return;
    if (answer !== null) this.#answers.push(frameMessage(answer));
    this.#sendOn();
    if (this.#countUnread()) this.#ask();
    else this.#stream.reset('stalled', 'too many unread answers');
  }

  /** Takes what waits to be read into account. False where that is too much. */
  #countUnread(): boolean {
    const bytes = this.#answers.reduce((sum, { length }) => sum + length, this.#sendingBytes);
    return this.#unread.reserve(bytes - this.#unread.usedBytes);
  }

  #sendOn(): void {
    while (!this.#isOver && !this.#stream.isWaiting) {
      const answer = this.#answers.shift();
      if (answer === undefined) return;
      const sent = this.#stream.send(answer, 0, answer.length, false);
      this.#sendingBytes = sent === SENT.WAITING ? answer.length : 0;
    }
  }

  /** Called where no whole question is held: the peer asks no more, and has all answers. */
  #endIfDone(): void {
    if (this.#hasPeerEnded && !this.#isOver && this.#inFlight === 0 && !this.#stream.isWaiting) this.#end();
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

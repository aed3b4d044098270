/** Decides what goes to the channel next: control first, then one DATA frame per stream in turn (R-FLOW-7, R-FLOW-8). */
import type { Clock } from '../util/clock.js';
import type { FrameWriter } from './frame-writer.js';
import type { Outbox } from './outbox.js';
import { ReadyList } from './ready-list.js';
import type { SessionStream } from './session-stream.js';

/** DATA frames beside an interactive stream are cut to this many bytes, so that its next byte is soon written. */
const CUT_FRAME_BYTES = 32_768;

/** On channels with small frames (serial lines) every DATA frame is cut to this many bytes. */
const SMALL_FRAME_BYTES = 1024;

/** A channel whose largest frame is at most this has small frames. */
const SMALL_CHANNEL_BYTES = 4096;

/** DATA is written while less than this waits unwritten in the channel: as a rule, and beside an interactive stream. */
const HIGH_WATER_BYTES = 131_072;
const CUT_HIGH_WATER_BYTES = 65_536;

/**
 * A stream that sent so many frames of less than so many bytes in a row is taken for an interactive one, for this time
 * or until a larger one. One is not enough: it may be a request, or the rest of a transfer.
 */
const INTERACTIVE_FRAMES = 2;
const INTERACTIVE_BYTES = 1024;
const INTERACTIVE_MS = 1000;

export class Sender {
  readonly #writer: FrameWriter;
  readonly #outbox: Outbox;
  readonly #clock: Clock;
  readonly #maxFrameBytes: number;
  readonly #ready = new ReadyList<SessionStream>();
  #creditBytes: number;
  #sentBytes = 0;
  #isHeld = false;
  #isBusy = false;
  #isStopped = false;
  #interactiveId = 0;
  #interactiveAtMs = 0;
  /** Since when something waits for the channel. */
  #stalledAtMs: number | null = null;
  #stalledMs = 0;

  constructor(options: {
    readonly writer: FrameWriter;
    readonly outbox: Outbox;
    readonly clock: Clock;
    /** The largest DATA payload that both sides take, in bytes. */
    readonly maxFrameBytes: number;
    /** The first credit of the session, in bytes. */
    readonly creditBytes: number;
  }) {
    this.#writer = options.writer;
    this.#outbox = options.outbox;
    this.#clock = options.clock;
    this.#maxFrameBytes = options.maxFrameBytes;
    this.#creditBytes = options.creditBytes;
  }

  /** DATA sent in this session, in bytes. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** What the peer's credit leaves to be sent, all streams together, in bytes. */
  get creditLeftBytes(): number {
    return this.#creditBytes - this.#sentBytes;
  }

  /** For how long the channel took nothing although something waited, in milliseconds. */
  get stallMs(): number {
    return this.#stalledMs + (this.#stalledAtMs === null ? 0 : this.#clock.now() - this.#stalledAtMs);
  }

  /** The channel has written all that it was given. */
  handleDrain(): void {
    this.#endStall();
    this.flush();
  }

  /** The largest frame that is good to send now: small where another stream is interactive. */
  frameBytes(streamId: number): number {
    const max = this.#maxFrameBytes;
    if (max <= SMALL_CHANNEL_BYTES) return Math.min(max, SMALL_FRAME_BYTES);
    if (max <= CUT_FRAME_BYTES || this.#interactiveId === streamId || !this.#hasInteractive()) return max;
    return CUT_FRAME_BYTES;
  }

  /** Takes up a stream that has data and credit. */
  offer(stream: SessionStream): void {
    this.#ready.add(stream);
    this.flush();
  }

  /** The stream is not interactive any more, or is over. */
  forget(stream: SessionStream): void {
    if (this.#interactiveId === stream.id) this.#interactiveId = 0;
  }

  /** The peer's CREDIT for the session: a total; one that lowers it is ignored. */
  raiseCredit(totalBytes: number): void {
    if (totalBytes <= this.#creditBytes) return;
    this.#creditBytes = totalBytes;
    this.flush();
  }

  /** Between `hold` and `resume` nothing is written, so that what belongs together leaves together. */
  hold(): void {
    this.#isHeld = true;
  }

  resume(): void {
    this.#isHeld = false;
    this.flush();
  }

  /** Sends nothing any more. */
  stop(): void {
    this.#isStopped = true;
    this.#endStall();
  }

  /** Writes as much as the channel and the credits take. */
  flush(): void {
    if (this.#isHeld || this.#isBusy || this.#isStopped) return;
    this.#isBusy = true;
    try {
      while (this.#outbox.flush() && this.#canSendData()) {
        const stream = this.#ready.shift();
        if (stream === null) break;
        if (stream.sendableBytes > 0) this.#sendFrame(stream);
        else stream.awaitPace();
      }
    } finally {
      this.#isBusy = false;
    }
    if (this.#stalledAtMs === null && this.#isStalled) this.#stalledAtMs = this.#clock.now();
  }

  /** Whether frames wait, and not for credit. */
  get #isStalled(): boolean {
    if (this.#writer.sink.unwrittenBytes === 0) return false;
    return !this.#outbox.isEmpty || (this.#ready.size > 0 && this.#sentBytes < this.#creditBytes);
  }

  #endStall(): void {
    if (this.#stalledAtMs === null) return;
    this.#stalledMs += this.#clock.now() - this.#stalledAtMs;
    this.#stalledAtMs = null;
  }

  #canSendData(): boolean {
    if (this.#sentBytes >= this.#creditBytes) return false;
    const { unwrittenBytes } = this.#writer.sink;
    if (this.#maxFrameBytes <= SMALL_CHANNEL_BYTES) return unwrittenBytes < SMALL_FRAME_BYTES;
    return unwrittenBytes < CUT_HIGH_WATER_BYTES || (unwrittenBytes < HIGH_WATER_BYTES && !this.#hasInteractive());
  }

  #sendFrame(stream: SessionStream): void {
    const maxBytes = Math.min(this.frameBytes(stream.id), this.#creditBytes - this.#sentBytes);
    const bytes = stream.sendFrame(this.#writer, maxBytes);
    this.#sentBytes += bytes;
    if (bytes >= INTERACTIVE_BYTES) {
      stream.smallFrames = 0;
      this.forget(stream);
    } else if (++stream.smallFrames >= INTERACTIVE_FRAMES) {
      this.#interactiveId = stream.id;
      this.#interactiveAtMs = this.#clock.now();
    }
    if (stream.sendableBytes > 0) this.#ready.add(stream);
    else stream.notifySent();
  }

  #hasInteractive(): boolean {
    return this.#interactiveId !== 0 && this.#clock.now() - this.#interactiveAtMs < INTERACTIVE_MS;
  }
}

/** Decides what goes to the channel next: control first, then one DATA frame per stream in turn (R-FLOW-7, R-FLOW-8). */

import type { FrameWriter } from '../codec/frame-writer.js';
import { FRAME_TYPE } from '../codec/header.js';
import { HEADER_BYTES, MAX_CONTROL_BYTES } from '../codec/limits.js';
import { writeCredit } from '../codec/payloads.js';
import { VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import type { SessionStream } from './stream.js';

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

// The control frames that wait for the channel, and the bound on how many a peer can make us queue (R-FLOW-6).

/** Frames that are neither a PONG, nor CREDIT, nor one of those that each open stream may have. */
const MAX_QUEUED_FRAMES = 1024;

/** Of each open stream at most this many frames wait: OPEN or its answer, FIN, STOP, RESET. */
const FRAMES_PER_STREAM = 4;

/** Control frames go out while no more than this waits unwritten in the channel. */
const CONTROL_HIGH_WATER_BYTES = 128 * 1024;

const BATCH_BYTES = 16 * 1024;

/** What control frames are put into, of all sessions: filled and written in one go, and replaced where the channel keeps it. */
let batch: Buffer = Buffer.allocUnsafeSlow(BATCH_BYTES);

/** Something whose newest credit the peer should hear of: a stream, or the session itself (id 0). */
export interface Creditor {
  readonly id: number;
  /** Whether it stands in the outbox already. */
  isCreditDue: boolean;
  readonly grantedBytes: number;
}

interface QueuedFrame {
  readonly type: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export class Outbox {
  readonly #writer: FrameWriter;
  #frames: QueuedFrame[] = [];
  #peakStreams = 0;
  #creditors: Creditor[] = [];
  #pong: Buffer | null = null;
  readonly #credit = Buffer.allocUnsafe(8);

  constructor(writer: FrameWriter) {
    this.#writer = writer;
  }

  /** Whether the channel is so far behind that no more streams should be opened. */
  get isCongested(): boolean {
    return this.#frames.length >= MAX_QUEUED_FRAMES / 2;
  }

  get isEmpty(): boolean {
    return this.#frames.length === 0 && this.#creditors.length === 0 && this.#pong === null;
  }

  /** Queues a frame. Throws `flood` when more wait than the streams explain that were open since nothing waited. */
  add(type: number, streamId: number, payload: Buffer, openStreams: number): void {
    this.#peakStreams = this.#frames.length === 0 ? openStreams : Math.max(this.#peakStreams, openStreams);
    this.#frames.push({ type, streamId, payload });
    if (this.#frames.length > MAX_QUEUED_FRAMES + FRAMES_PER_STREAM * this.#peakStreams) {
      throw new VproxyError('flood', `${this.#frames.length} control frames wait to be written for the peer`);
    }
  }

  /** Queues the newest credit of a stream or the session: one frame, however often it is raised. */
  addCredit(creditor: Creditor): void {
    if (creditor.isCreditDue) return;
    creditor.isCreditDue = true;
    this.#creditors.push(creditor);
  }

  /** Queues the answer to the newest PING. */
  addPong(payload: Buffer): void {
    this.#pong = Buffer.from(payload);
  }

  /** Writes what waits, while less than `highWaterBytes` are unwritten in the channel. True when nothing waits any more. */
  flush(highWaterBytes: number = CONTROL_HIGH_WATER_BYTES): boolean {
    while (!this.isEmpty && this.#writer.sink.unwrittenBytes < highWaterBytes) {
      const end = this.#fillBatch();
      const written = batch.subarray(0, end);
      if (!this.#writer.sink.write(written)) batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
    }
    return this.isEmpty;
  }

  /** Forgets what waits: the session is over. */
  clear(): void {
    this.#frames = [];
    this.#creditors = [];
    this.#pong = null;
  }

  #fillBatch(): number {
    const room = BATCH_BYTES - HEADER_BYTES - MAX_CONTROL_BYTES;
    let end = 0;
    if (this.#pong !== null) {
      end = this.#writer.put(batch, end, FRAME_TYPE.PONG, 0, this.#pong);
      this.#pong = null;
    }
    let count = 0;
    for (; count < this.#frames.length && end <= room; count += 1) {
      const { type, streamId, payload } = this.#frames[count] as QueuedFrame;
      end = this.#writer.put(batch, end, type, streamId, payload);
    }
    this.#frames.splice(0, count);
    // A stream's CREDIT must not overtake the OPEN or ACCEPT that makes the stream.
    if (this.#frames.length > 0) return end;
    for (count = 0; count < this.#creditors.length && end <= room; count += 1) {
      const creditor = this.#creditors[count] as Creditor;
      creditor.isCreditDue = false;
      writeCredit(this.#credit, 0, creditor.grantedBytes);
      end = this.#writer.put(batch, end, FRAME_TYPE.CREDIT, creditor.id, this.#credit);
    }
    this.#creditors.splice(0, count);
    return end;
  }
}

// The streams whose turn to send comes, in order: one frame each (R-FLOW-7).

/** What a member of a list carries, so that joining and leaving cost no memory. */
export interface Ready {
  nextReady: this | null;
  isReady: boolean;
}

/** A first-in-first-out list without duplicates. */
class ReadyList<T extends Ready & { nextReady: T | null }> {
  #first: T | null = null;
  #last: T | null = null;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Adds a member at the end, unless it is in the list. */
  add(member: T): void {
    if (member.isReady) return;
    member.isReady = true;
    member.nextReady = null;
    if (this.#last === null) this.#first = member;
    else this.#last.nextReady = member;
    this.#last = member;
    this.#size += 1;
  }

  /** Takes the first member out. */
  shift(): T | null {
    const member = this.#first;
    if (member === null) return null;
    this.#first = member.nextReady;
    if (this.#first === null) this.#last = null;
    member.nextReady = null;
    member.isReady = false;
    this.#size -= 1;
    return member;
  }
}

// Who waits for the channel to have written all that it was given.

/** Callbacks that are made once, together. */
export class DrainWaiters {
  #callbacks: (() => void)[] = [];

  add(callback: () => void): void {
    this.#callbacks.push(callback);
  }

  /** Calls all that wait; one that is added meanwhile waits for the next time. */
  callAll(): void {
    if (this.#callbacks.length === 0) return;
    const callbacks = this.#callbacks;
    this.#callbacks = [];
    for (const callback of callbacks) callback();
  }
}

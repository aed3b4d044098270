/** What a stream has to send: at most one buffer that waits, and the credit that the peer gave (R-FLOW-2). */
import type { FrameWriter } from '../codec/frame-writer.js';

/** What became of the bytes given to `SessionStream.send`. */
export const SENT = {
  /** All sent; the buffer is the caller's again. */
  FREE: 0,
  /** All sent; the buffer stays with the channel. */
  KEPT: 1,
  /** Something waits; `handleSent` follows, and nothing more may be sent before it. */
  WAITING: 2,
} as const;
export type Sent = (typeof SENT)[keyof typeof SENT];

/** What a {@link SendBuffer} may send, has sent, and has to send. */
export interface SendBufferState {
  /** The newest total that the peer gave. */
  creditBytes: number;
  /** DATA sent so far. */
  sentBytes: number;
  /** What waits to be sent, or null: only while the buffer is handed over. */
  waiting: Buffer | null;
}

export class SendBuffer {
  readonly #state: SendBufferState;
  #buffer: Buffer | null = null;
  #start = 0;
  #end = 0;
  #hasHeadroom = false;
  #hasTailroom = false;
  #isLent = false;
  /** Whether the channel may keep parts of the buffer for long: its owner waits for that, and it is well filled. */
  #mayKeep = false;

  /** What waited in another one is in a buffer that nobody has to be given back. */
  constructor(state: SendBufferState) {
    const { waiting } = state;
    this.#state = state;
    state.waiting = null;
    if (waiting !== null) this.put(waiting, 0, waiting.length, false);
  }

  get state(): SendBufferState {
    return { ...this.#state, waiting: this.#buffer?.subarray(this.#start, this.#end) ?? null };
  }

  /** DATA sent so far, in bytes. */
  get sentBytes(): number {
    return this.#state.sentBytes;
  }

  /** What the peer's credit leaves to be sent, in bytes. */
  get creditLeftBytes(): number {
    return this.#state.creditBytes - this.#state.sentBytes;
  }

  /** Whether bytes wait to be sent. */
  get isWaiting(): boolean {
    return this.#buffer !== null;
  }

  /** Whether the channel still holds a part of the last buffer. */
  get isLent(): boolean {
    return this.#isLent;
  }

  /** What became of the last buffer. */
  get outcome(): Sent {
    if (this.#buffer !== null) return SENT.WAITING;
    return this.#isLent ? SENT.KEPT : SENT.FREE;
  }

  /** Takes `buffer[start, end)` to be sent. `hasRoom`: the 16 bytes before `start` and the 4 from `end` on may be overwritten. */
  put(buffer: Buffer, start: number, end: number, hasRoom: boolean): void {
    this.#buffer = buffer;
    this.#start = start;
    this.#end = end;
    this.#hasHeadroom = hasRoom;
    this.#hasTailroom = hasRoom;
    this.#isLent = false;
    this.#mayKeep = hasRoom && 2 * (end - start) >= buffer.length;
  }

  /** Forgets what waits. */
  drop(): void {
    this.#buffer = null;
  }

  /** Takes a total from the peer. False for one that is not above the known one. */
  raiseCredit(totalBytes: number): boolean {
    if (totalBytes <= this.#state.creditBytes) return false;
    this.#state.creditBytes = totalBytes;
    return true;
  }

  /** How much of what waits may be sent, in bytes, where no more than `limitBytes` may be sent in total. */
  sendableBytes(limitBytes: number): number {
    if (this.#buffer === null) return 0;
    return Math.min(this.#end - this.#start, Math.min(this.#state.creditBytes, limitBytes) - this.#state.sentBytes);
  }

  /** Sends the first `bytes` bytes of what waits as one frame. */
  sendFrame(writer: FrameWriter, streamId: number, bytes: number): void {
    const end = this.#start + bytes;
    // What follows in the buffer is still to be sent: only behind the last of it is there room.
    const hasTailroom = this.#hasTailroom && end === this.#end;
    const isFree = writer.writeData(
      streamId,
      this.#buffer as Buffer,
      this.#start,
      end,
      this.#hasHeadroom,
      hasTailroom,
      this.#mayKeep,
    );
    if (!isFree) {
      // The channel reads the buffer later: what was sent may not be overwritten with the next header.
      this.#isLent = true;
      this.#hasHeadroom = false;
    }
    this.#start = end;
    this.#state.sentBytes += bytes;
    if (end === this.#end) this.#buffer = null;
  }
}

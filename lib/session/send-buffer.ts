/** The sending side of a stream: at most one waiting buffer, and the credit that the peer gave (R-FLOW-2). */
import type { FrameWriter } from '../codec/frame-writer.js';
import { assertInvariants } from '../util/invariant.js';

/** The outcome of `SessionStream.send`. */
export const SENT = {
  /** All sent; the buffer is the caller's again. */
  FREE: 0,
  /** All sent, but the channel keeps the buffer. */
  KEPT: 1,
  /** Bytes wait; `handleSent` follows, and nothing more may be sent before it. */
  WAITING: 2,
} as const;
export type Sent = (typeof SENT)[keyof typeof SENT];

export interface SendBufferState {
  /** The newest total granted by the peer. */
  creditBytes: number;
  /** DATA sent so far, in bytes. */
  sentBytes: number;
  /** The waiting bytes, or null: only while the buffer is handed over. */
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
  /** Whether the channel may keep parts of the buffer for long: its owner waits for that, and it is at least half full. */
  #mayKeep = false;

  /** Bytes that waited in another process are in a buffer that has no owner to return it to. */
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

  /** The credit that the peer leaves to be sent, in bytes. */
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

  /** The outcome for the last buffer. */
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

  /** Drops what waits. */
  drop(): void {
    this.#buffer = null;
  }

  /** Takes a total from the peer. Returns false if it is not above the known one. */
  raiseCredit(totalBytes: number): boolean {
    if (totalBytes <= this.#state.creditBytes) return false;
    this.#state.creditBytes = totalBytes;
    return true;
  }

  /** How many of the waiting bytes may be sent, if no more than `limitBytes` may be sent in total. */
  sendableBytes(limitBytes: number): number {
    if (this.#buffer === null) return 0;
    return Math.min(this.#end - this.#start, Math.min(this.#state.creditBytes, limitBytes) - this.#state.sentBytes);
  }

  /** Sends the first `bytes` waiting bytes as one frame. */
  sendFrame(writer: FrameWriter, streamId: number, bytes: number): void {
    const end = this.#start + bytes;
    // The rest of the buffer is still to be sent: only after the last of it is there room.
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
      // The channel reads the buffer later: the sent part must not be overwritten with the next header.
      this.#isLent = true;
      this.#hasHeadroom = false;
    }
    this.#start = end;
    this.#state.sentBytes += bytes;
    INVARIANT: assertInvariants(
      'send buffer',
      () => ({ ...this.#state, start: this.#start, end: this.#end }),
      this.#start <= this.#end && this.#end <= (this.#buffer?.length ?? 0),
      this.#state.sentBytes <= this.#state.creditBytes,
    );
    if (end === this.#end) this.#buffer = null;
  }
}

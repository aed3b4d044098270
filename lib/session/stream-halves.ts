/** What one stream has to send: the bytes that wait, and the credit that the peer gave (R-FLOW-2). */

import type { FrameWriter } from '../codec/frame-writer.js';
import type { Pace, ReceiveWindow } from './flow.js';

/** What became of the bytes given to `send`. */
export const SENT = {
  /** All sent; the buffer is the caller's again. */
  FREE: 0,
  /** All sent; the buffer stays with the channel. */
  KEPT: 1,
  /** Something waits; `handleSent` follows, and nothing more may be sent before it. */
  WAITING: 2,
} as const;
export type Sent = (typeof SENT)[keyof typeof SENT];

/** The sending direction of a stream: at most one buffer waits in it. */
export class SendingHalf {
  #creditBytes: number;
  #sentBytes = 0;
  #buffer: Buffer | null = null;
  #start = 0;
  #end = 0;
  #hasRoom = false;
  #isLent = false;

  /** `creditBytes` is the first credit that the peer announced. */
  constructor(creditBytes: number) {
    this.#creditBytes = creditBytes;
  }

  /** DATA sent so far, in bytes. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** What the peer's credit leaves to be sent, in bytes. */
  get creditLeftBytes(): number {
    return this.#creditBytes - this.#sentBytes;
  }

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

  /** Takes `buffer[start, end)` to be sent. `hasRoom`: the 16 bytes before `start` may be overwritten. */
  put(buffer: Buffer, start: number, end: number, hasRoom: boolean): void {
    this.#buffer = buffer;
    this.#start = start;
    this.#end = end;
    this.#hasRoom = hasRoom;
    this.#isLent = false;
  }

  /** Forgets what waits. */
  drop(): void {
    this.#buffer = null;
  }

  /** Takes a total from the peer. False for one that is not above the known one. */
  raiseCredit(totalBytes: number): boolean {
    if (totalBytes <= this.#creditBytes) return false;
    this.#creditBytes = totalBytes;
    return true;
  }

  /** How much of what waits may be sent, in bytes, where no more than `limitBytes` may be sent in total. */
  sendableBytes(limitBytes: number): number {
    if (this.#buffer === null) return 0;
    return Math.min(this.#end - this.#start, Math.min(this.#creditBytes, limitBytes) - this.#sentBytes);
  }

  /** Sends so many of the bytes that wait as one frame. */
  sendFrame(writer: FrameWriter, streamId: number, bytes: number): void {
    const end = this.#start + bytes;
    const isFree = writer.writeData(streamId, this.#buffer as Buffer, this.#start, end, this.#hasRoom);
    if (!isFree) {
      // The channel reads the buffer later: what was sent may not be overwritten with the next header.
      this.#isLent = true;
      this.#hasRoom = false;
    }
    this.#start = end;
    this.#sentBytes += bytes;
    if (end === this.#end) this.#buffer = null;
  }
}

// What one stream receives: its window, and whether more is to come or wanted (R-STREAM-7, R-STREAM-9, R-FLOW-3).

/** The receiving direction of a stream. */
export class ReceivingHalf {
  readonly #window: ReceiveWindow;
  #hasEnded = false;
  #isStopped = false;
  #isDraining = false;

  constructor(window: ReceiveWindow) {
    this.#window = window;
  }

  /** DATA received so far, in bytes. */
  get receivedBytes(): number {
    return this.#window.receivedBytes;
  }

  /** How much the peer may have sent in total, in bytes. */
  get grantedBytes(): number {
    return this.#window.grantedBytes;
  }

  /** What came and has not left this side, in bytes. */
  get heldBytes(): number {
    return this.#window.heldBytes;
  }

  /** Whether the peer's FIN has come. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Whether this side reads no more, and drops what still arrives. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** Whether bytes that arrived still lie on this side although the stream is over. */
  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Counts DATA that came. Throws `flow-control` beyond the credit. */
  receive(bytes: number, streamId: number): void {
    this.#window.receive(bytes, streamId);
  }

  end(): void {
    this.#hasEnded = true;
  }

  stop(): void {
    this.#isStopped = true;
  }

  /** Counts what left this side; `mayGrow`: the window. True when the peer should hear of more credit. */
  release(bytes: number, pace: Pace, mayGrow: boolean): boolean {
    return this.#window.release(bytes, pace, mayGrow) && !this.#hasEnded && !this.#isStopped;
  }

  /** Whether all that came has left this side. */
  get isDrained(): boolean {
    return this.#window.heldBytes === 0;
  }

  /** The stream is over: drains what lies here where it ended in order, else gives the window back. */
  close(isInOrder: boolean): void {
    this.#isDraining = isInOrder && !this.#isStopped && !this.isDrained;
    if (!this.#isDraining) this.#window.close();
  }

  /** Gives the window back, drained or not. False where it did not drain. */
  stopDraining(): boolean {
    if (!this.#isDraining) return false;
    this.#isDraining = false;
    this.#window.close();
    return true;
  }
}

/** What a stream has to send: at most one buffer that waits, and the credit that the peer gave (R-FLOW-2). */
import type { FrameWriter } from '../codec/frame-writer.js';
import { TRAILER_BYTES } from '../codec/integrity.js';
import { HEADER_BYTES } from '../codec/limits.js';
import { isAlone } from '../util/byte-queue.js';

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

/** A {@link SendBuffer} as plain data. */
export interface SendBufferCapture {
  readonly creditBytes: number;
  readonly sentBytes: number;
  /** What waits to be sent, or null. */
  readonly waiting: Buffer | null;
}

export class SendBuffer {
  #creditBytes: number;
  #sentBytes = 0;
  #buffer: Buffer | null = null;
  #start = 0;
  #end = 0;
  #hasHeadroom = false;
  #hasTailroom = false;
  #isLent = false;
  /** Whether the channel may keep parts of the buffer for long: its owner waits for that, and it is well filled. */
  #mayKeep = false;

  /** `creditBytes` is the first credit that the peer announced. */
  constructor(creditBytes: number) {
    this.#creditBytes = creditBytes;
  }

  capture(): SendBufferCapture {
    return {
      creditBytes: this.#creditBytes,
      sentBytes: this.#sentBytes,
      waiting: this.#buffer?.subarray(this.#start, this.#end) ?? null,
    };
  }

  /** Takes what another one had. What waits is in a buffer of its own, which nobody has to be given back. */
  restore({ creditBytes, sentBytes, waiting }: SendBufferCapture): void {
    this.#creditBytes = creditBytes;
    this.#sentBytes = sentBytes;
    if (waiting === null) return;
    if (isAlone(waiting)) {
      this.put(waiting, 0, waiting.length, false);
      return;
    }
    const buffer = Buffer.allocUnsafeSlow(HEADER_BYTES + waiting.length + TRAILER_BYTES);
    waiting.copy(buffer, HEADER_BYTES);
    this.put(buffer, HEADER_BYTES, HEADER_BYTES + waiting.length, true);
  }

  /** DATA sent so far, in bytes. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** What the peer's credit leaves to be sent, in bytes. */
  get creditLeftBytes(): number {
    return this.#creditBytes - this.#sentBytes;
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
    if (totalBytes <= this.#creditBytes) return false;
    this.#creditBytes = totalBytes;
    return true;
  }

  /** How much of what waits may be sent, in bytes, where no more than `limitBytes` may be sent in total. */
  sendableBytes(limitBytes: number): number {
    if (this.#buffer === null) return 0;
    return Math.min(this.#end - this.#start, Math.min(this.#creditBytes, limitBytes) - this.#sentBytes);
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
    this.#sentBytes += bytes;
    if (end === this.#end) this.#buffer = null;
  }
}

/** One direction of a simulated link: latency, a buffer of a certain size, and everything that can happen to bytes on the way. */
import type { ByteSink } from '../../lib/codec/frame-writer.js';

/** Bytes on the way. */
interface Piece {
  readonly bytes: Buffer;
  /** How much had been written in total, up to the end of these bytes. */
  readonly writtenTo: number;
  readonly readyAtMs: number;
  /** Whether the bytes were changed, so that it is not known where in what was written each of them was. */
  readonly isMangled: boolean;
}

/** What came out at the far end. */
export interface Taken {
  readonly bytes: Buffer;
  /** How far into all that was written these bytes reach. */
  readonly writtenTo: number;
}

const NOTHING: Taken = { bytes: Buffer.alloc(0), writtenTo: 0 };

/** How much of what was written is remembered, to be delivered late as stale bytes. */
const HISTORY_BYTES = 65_536;

export class SimulatedDirection implements ByteSink {
  readonly #capacityBytes: number;
  readonly #latencyMs: number;
  readonly #nowMs: () => number;
  readonly #onChanged: () => void;
  #way: Piece[] = [];
  #wayBytes = 0;
  /** The bytes that wait with the writer, and a copy from when they were handed over. */
  #waiting: { readonly bytes: Buffer; readonly written: Buffer }[] = [];
  #waitingBytes = 0;
  /** A write was told to wait. What is lost on the way may make room for all of it before anything is taken. */
  #owesDrain = false;
  #writtenTo = 0;
  #history: Buffer[] = [];
  #historyBytes = 0;
  /** While true nothing is delivered. */
  isStalled = false;

  constructor(options: {
    readonly capacityBytes: number;
    readonly latencyMs: number;
    readonly nowMs: () => number;
    /** A buffer was changed while it waited to be written: its owner got it back too early. */
    readonly onChanged: () => void;
  }) {
    this.#onChanged = options.onChanged;
    this.#capacityBytes = options.capacityBytes;
    this.#latencyMs = options.latencyMs;
    this.#nowMs = options.nowMs;
  }

  get unwrittenBytes(): number {
    return this.#waitingBytes;
  }

  /** Bytes on the way, written or not. */
  get totalBytes(): number {
    return this.#wayBytes + this.#waitingBytes;
  }

  /** When the next bytes come out, or infinity. */
  get readyAtMs(): number {
    return this.isStalled ? Number.POSITIVE_INFINITY : (this.#way[0]?.readyAtMs ?? Number.POSITIVE_INFINITY);
  }

  /** What was written last. */
  get history(): Buffer {
    return Buffer.concat(this.#history);
  }

  write(bytes: Buffer): boolean {
    if (this.#waitingBytes === 0 && this.#wayBytes + bytes.length <= this.#capacityBytes) {
      // The writer may use its buffer again at once.
      this.#putOnWay(Buffer.from(bytes));
      return true;
    }
    this.#waiting.push({ bytes, written: Buffer.from(bytes) });
    this.#waitingBytes += bytes.length;
    this.#owesDrain = true;
    this.#fill();
    return false;
  }

  writeParts(parts: readonly Buffer[]): boolean {
    let isFree = true;
    for (const part of parts) isFree = this.write(part) && isFree;
    return isFree;
  }

  /** Takes up to `maxBytes` that have arrived. */
  take(maxBytes: number): Taken {
    const parts: Buffer[] = [];
    let size = 0;
    let writtenTo = 0;
    while (size < maxBytes && this.readyAtMs <= this.#nowMs()) {
      const piece = this.#way[0] as Piece;
      const part = piece.bytes.subarray(0, maxBytes - size);
      const left = piece.bytes.length - part.length;
      if (left === 0) this.#way.shift();
      else this.#way[0] = { ...piece, bytes: piece.bytes.subarray(part.length) };
      parts.push(part);
      size += part.length;
      // A piece that comes twice begins again before its end.
      writtenTo = Math.max(writtenTo, piece.isMangled ? piece.writtenTo : piece.writtenTo - left);
    }
    if (size === 0) return NOTHING;
    this.#wayBytes -= size;
    return { bytes: Buffer.concat(parts), writtenTo };
  }

  /** Takes from the writer what fits now. True when nothing waits with it any more, and it was told to wait. */
  refill(): boolean {
    if (!this.#owesDrain) return false;
    this.#fill();
    this.#owesDrain = this.#waitingBytes > 0;
    return !this.#owesDrain;
  }

  /** Loses `count` of the bytes on the way, from a place on. */
  lose(at: number, count: number): void {
    this.#mangle((bytes) => [bytes.subarray(0, at), bytes.subarray(at + count)]);
  }

  /** Lets `count` of the bytes on the way come twice. */
  repeat(at: number, count: number): void {
    this.#mangle((bytes) => [bytes.subarray(0, at + count), bytes.subarray(at)]);
  }

  /** Loses all that was written at once, or a part of it that the link took at once: whole frames, mostly. */
  losePiece(at: number): void {
    const [piece] = this.#way.splice(at % Math.max(this.#way.length, 1), 1);
    this.#wayBytes -= piece?.bytes.length ?? 0;
  }

  /** Lets what was written at once come twice. */
  repeatPiece(at: number): void {
    const index = at % Math.max(this.#way.length, 1);
    const piece = this.#way[index];
    if (piece === undefined) return;
    this.#way.splice(index, 0, piece);
    this.#wayBytes += piece.bytes.length;
  }

  /** Inserts bytes that the writer did not write among those on the way. */
  insert(at: number, stale: Buffer): void {
    this.#mangle((bytes) => [bytes.subarray(0, at), stale, bytes.subarray(at)]);
  }

  /** The writer died: what still waits with it is gone, and a frame may be left half-written. */
  dropUnwritten(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#owesDrain = false;
  }

  #fill(): void {
    while (this.#waiting.length > 0 && this.#wayBytes < this.#capacityBytes) {
      const [{ bytes, written }] = this.#waiting as [{ bytes: Buffer; written: Buffer }];
      const size = Math.min(bytes.length, this.#capacityBytes - this.#wayBytes);
      if (bytes.compare(written, 0, size, 0, size) !== 0) this.#onChanged();
      this.#putOnWay(Buffer.from(bytes.subarray(0, size)));
      this.#waitingBytes -= size;
      if (size === bytes.length) this.#waiting.shift();
      else this.#waiting[0] = { bytes: bytes.subarray(size), written: written.subarray(size) };
    }
  }

  #mangle(change: (bytes: Buffer) => Buffer[]): void {
    const parts = change(Buffer.concat(this.#way.map(({ bytes }) => bytes)));
    const bytes = Buffer.concat(parts);
    const readyAtMs = this.#way[0]?.readyAtMs ?? this.#nowMs() + this.#latencyMs;
    this.#way = bytes.length > 0 ? [{ bytes, writtenTo: this.#writtenTo, readyAtMs, isMangled: true }] : [];
    this.#wayBytes = bytes.length;
  }

  #putOnWay(bytes: Buffer): void {
    this.#writtenTo += bytes.length;
    this.#way.push({ bytes, writtenTo: this.#writtenTo, readyAtMs: this.#nowMs() + this.#latencyMs, isMangled: false });
    this.#wayBytes += bytes.length;
    this.#history.push(bytes);
    this.#historyBytes += bytes.length;
    while (this.#historyBytes > HISTORY_BYTES) this.#historyBytes -= (this.#history.shift() as Buffer).length;
  }
}

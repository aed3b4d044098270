/** Writes the frames of one direction of a session: counts them, checks them, and hands them to the channel (R-FRAME-1 to R-FRAME-3). */
import { crc32 } from 'node:zlib';
import { FRAME_TYPE, nextSequence, writeHeader } from './header.js';
import { HEADER_BYTES } from './limits.js';

/** Takes bytes for the peer, in order. Implemented by the links of `channel`. */
export interface ByteSink {
  /**
   * Hands bytes over. True: they were taken at once and the buffer is the caller's again. False: the sink keeps the
   * buffer until it was written, and the caller must not touch it any more.
   */
  write(bytes: Buffer): boolean;

  /** As `write` of both, one behind the other, in as few system calls as that takes. True: both buffers are the caller's again. */
  writePair(first: Buffer, second: Buffer): boolean;

  /** How many bytes were handed over and still wait in this process. */
  readonly unwrittenBytes: number;
}

/** Payloads up to this size are copied behind their header: cheaper than two writes. */
const COPY_BYTES = 4096;

export class FrameWriter {
  readonly sink: ByteSink;
  readonly #integrity: boolean;
  #sequence = 1;
  #frameCount = 0;

  constructor(sink: ByteSink, integrity: boolean) {
    this.sink = sink;
    this.#integrity = integrity;
  }

  /** The sequence number of the next frame. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Frames written, of every type. */
  get frameCount(): number {
    return this.#frameCount;
  }

  /** Puts a whole control frame into `batch` at `offset`, which must have room. The offset behind it. */
  put(batch: Buffer, offset: number, type: number, streamId: number, payload: Buffer): number {
    payload.copy(batch, offset + HEADER_BYTES);
    const crc = this.#integrity || type === FRAME_TYPE.AUTH ? crc32(payload) : 0;
    this.#putHeader(batch, offset, type, streamId, payload.length, crc);
    return offset + HEADER_BYTES + payload.length;
  }

  /**
   * Sends `buffer[start, end)` as one DATA frame. `hasRoom` says that the 16 bytes before `start` may be overwritten,
   * which makes the frame one contiguous piece. True when the channel is done with the buffer.
   */
  writeData(streamId: number, buffer: Buffer, start: number, end: number, hasRoom: boolean): boolean {
    const length = end - start;
    const payload = buffer.subarray(start, end);
    const crc = this.#integrity ? crc32(payload) : 0;
    if (hasRoom) {
      this.#putHeader(buffer, start - HEADER_BYTES, FRAME_TYPE.DATA, streamId, length, crc);
      return this.sink.write(buffer.subarray(start - HEADER_BYTES, end));
    }
    if (length <= COPY_BYTES) {
      const frame = Buffer.allocUnsafe(HEADER_BYTES + length);
      payload.copy(frame, HEADER_BYTES);
      this.#putHeader(frame, 0, FRAME_TYPE.DATA, streamId, length, crc);
      this.sink.write(frame);
      return true;
    }
    const header = Buffer.allocUnsafe(HEADER_BYTES);
    this.#putHeader(header, 0, FRAME_TYPE.DATA, streamId, length, crc);
    return this.sink.writePair(header, payload);
  }

  #putHeader(buffer: Buffer, offset: number, type: number, streamId: number, length: number, crc: number): void {
    writeHeader(buffer, offset, type, streamId, length, crc, this.#sequence);
    this.#sequence = nextSequence(this.#sequence);
    this.#frameCount += 1;
  }
}

/** Writes the frames of one direction of a session: numbers them, adds checks, and hands them on (R-FRAME-1 to R-FRAME-3). */
import { crc32 } from './crc32.js';
import { type ControlType, type DataCheck, FRAME_TYPE, type FrameType, nextSequence, writeHeader } from './header.js';
import { HEADER_BYTES } from './limits.js';

/** Takes bytes for the peer, in order. Implemented by the links in `link`. */
export interface ByteSink {
  /**
   * Hands bytes over. True: they were taken at once and the buffer is the caller's again. False: the sink keeps the
   * buffer until it has been written, and the caller must no longer touch it.
   */
  write(bytes: Buffer): boolean;

  /**
   * Like `write` of each part in turn, in as few system calls as possible. True: all of them are the caller's again.
   * `mayKeep`: a sink that keeps bytes longer than a channel does may keep these as they are; otherwise it copies them.
   */
  writeParts(parts: readonly Buffer[], mayKeep?: boolean): boolean;

  /** Bytes that were handed over and still wait in this process. */
  readonly unwrittenBytes: number;

  /** Whether it keeps so much already that no more payload should be written. Default: never. */
  readonly isFull?: boolean;

  /** If it keeps written bytes longer than a channel does: calls back when everything written so far is free. */
  afterKept?(callback: () => void): void;
}

/** Payloads up to this size are copied after their header: cheaper than several parts. */
const COPY_BYTES = 4096;

export interface FrameWriterState {
  /** The sequence number of the next frame. */
  sequence: number;
  /** Frames written, of every type. */
  frameCount: number;
}

export class FrameWriter {
  readonly sink: ByteSink;
  readonly state: FrameWriterState;
  readonly #check: DataCheck;

  /** With the `state` of another writer of the same direction, continues its numbering. */
  constructor(sink: ByteSink, check: DataCheck, state = { sequence: 1, frameCount: 0 }) {
    this.sink = sink;
    this.#check = check;
    this.state = state;
  }

  /** Puts a complete control frame into `batch` at `offset`, where there must be room. Returns the offset after it. */
  put(batch: Buffer, offset: number, type: ControlType, streamId: number, payload: Buffer): number {
    payload.copy(batch, offset + HEADER_BYTES);
    this.#putHeader(batch, offset, type, streamId, payload.length, crc32(payload));
    return offset + HEADER_BYTES + payload.length;
  }

  /**
   * Sends `buffer[start, end)` as one DATA frame. `hasHeadroom` and `hasTailroom`: the 16 bytes before `start`, and the
   * 4 from `end` on, may be overwritten; both make the frame one contiguous piece. `mayKeep`: see `ByteSink.writeParts`.
   * Returns true when the channel is done with the buffer.
   */
  writeData(
    streamId: number,
    buffer: Buffer,
    start: number,
    end: number,
    hasHeadroom: boolean,
    hasTailroom: boolean,
    mayKeep: boolean,
  ): boolean {
    const length = end - start;
    const payload = buffer.subarray(start, end);
    const { trailerBytes } = this.#check;
    const isTrailerInPlace = trailerBytes === 0 || hasTailroom;
    if (hasHeadroom && isTrailerInPlace) {
      this.#putDataEnds(streamId, payload, buffer, start - HEADER_BYTES, buffer, end);
      return this.sink.write(buffer.subarray(start - HEADER_BYTES, end + trailerBytes));
    }
    if (length <= COPY_BYTES) {
      const frame = Buffer.allocUnsafe(HEADER_BYTES + length + trailerBytes);
      payload.copy(frame, HEADER_BYTES);
      this.#putDataEnds(streamId, payload, frame, 0, frame, HEADER_BYTES + length);
      this.sink.write(frame);
      return true;
    }
    const ends = Buffer.allocUnsafe(HEADER_BYTES + trailerBytes);
    const trailer = ends.subarray(HEADER_BYTES);
    if (hasHeadroom) {
      this.#putDataEnds(streamId, payload, buffer, start - HEADER_BYTES, ends, HEADER_BYTES);
      return this.sink.writeParts([buffer.subarray(start - HEADER_BYTES, end), trailer], mayKeep);
    }
    this.#putDataEnds(streamId, payload, ends, 0, ends, HEADER_BYTES);
    const header = ends.subarray(0, HEADER_BYTES);
    return this.sink.writeParts(trailerBytes === 0 ? [header, payload] : [header, payload, trailer], mayKeep);
  }

  /** Puts the header of a DATA frame into one buffer, and its trailer, if any, into another. */
  #putDataEnds(
    streamId: number,
    payload: Buffer,
    headerBuffer: Buffer,
    headerAt: number,
    trailerBuffer: Buffer,
    trailerAt: number,
  ): void {
    const check = this.#check;
    if (check.trailerBytes > 0) trailerBuffer.writeUInt32BE(check.trailerOf(this.state.sequence), trailerAt);
    this.#putHeader(headerBuffer, headerAt, FRAME_TYPE.DATA, streamId, payload.length, check.crcOf(payload));
  }

  #putHeader(buffer: Buffer, offset: number, type: FrameType, streamId: number, length: number, crc: number): void {
    const { state } = this;
    writeHeader(buffer, offset, type, streamId, length, crc, state.sequence);
    state.sequence = nextSequence(state.sequence);
    state.frameCount += 1;
  }
}

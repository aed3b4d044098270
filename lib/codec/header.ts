/** Frames as bytes: the 16-byte header in front of a payload (R-FRAME-1 to R-FRAME-3). */
import { crc32 } from 'node:zlib';
import { headerCheck } from './check.js';
import { FRAME_TYPE } from './frame-type.js';
import { HEADER_BYTES } from './limits.js';

/** Sequence numbers count 1, 2, 3, … and wrap after 2^32−1 to 1; 0 is HELLO's (R-FRAME-3). */
export function nextSequence(sequence: number): number {
  return sequence === 0xffff_ffff ? 1 : sequence + 1;
}

/**
 * Writes the header for a payload of `length` bytes at `offset`. `crc` is the CRC-32 of the payload, or 0 where
 * integrity is not in force.
 */
export function writeHeader(
  buffer: Buffer,
  offset: number,
  type: number,
  streamId: number,
  length: number,
  crc: number,
  sequence: number,
): void {
  buffer[offset] = type;
  buffer[offset + 1] = 0;
  buffer.writeUInt32BE(streamId, offset + 4);
  buffer.writeUInt32BE(length, offset + 8);
  buffer.writeUInt32BE(crc, offset + 12);
  buffer.writeUInt16BE(headerCheck(buffer, offset, sequence), offset + 2);
}

/** A whole frame as new bytes: for HELLO, and wherever speed does not matter. */
export function encodeFrame(
  type: number,
  streamId: number,
  payload: Uint8Array,
  sequence: number,
  integrity: boolean,
): Buffer {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  frame.set(payload, HEADER_BYTES);
  const crc = integrity || type === FRAME_TYPE.HELLO || type === FRAME_TYPE.AUTH ? crc32(payload) : 0;
  writeHeader(frame, 0, type, streamId, payload.length, crc, sequence);
  return frame;
}

/**
 * The bytes around the payload of a frame: the 16-byte header and the trailer of DATA, which show what a channel did to the bytes
 * (R-FRAME-1 to R-FRAME-3, R-INTEGRITY-1 to R-INTEGRITY-4).
 */
import { crc32 } from './crc32.js';
import { HEADER_BYTES } from './limits.js';

/** Sequence numbers count 1, 2, 3, … and wrap after 2^32−1 to 1; 0 is HELLO's (R-FRAME-3). */
export function nextSequence(sequence: number): number {
  return sequence === 0xffff_ffff ? 1 : sequence + 1;
}

/**
 * Writes the header for a payload of `length` bytes at `offset`. `crc` is the CRC-32 of the payload, or 0 for DATA that
 * carries none (R-INTEGRITY-2).
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

/** A whole frame with the CRC of its payload, as new bytes: for HELLO, and wherever speed does not matter. */
export function encodeFrame(type: number, streamId: number, payload: Uint8Array, sequence: number): Buffer {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  frame.set(payload, HEADER_BYTES);
  writeHeader(frame, 0, type, streamId, payload.length, crc32(payload), sequence);
  return frame;
}

/** The types of frames (R-FRAME-5). */
export const FRAME_TYPE = {
  HELLO: 0x01,
  AUTH: 0x02,
  SERVICES: 0x03,
  OPEN: 0x04,
  ACCEPT: 0x05,
  REFUSE: 0x06,
  DATA: 0x07,
  CREDIT: 0x08,
  FIN: 0x09,
  STOP: 0x0a,
  RESET: 0x0b,
  PING: 0x0c,
  PONG: 0x0d,
  GOAWAY: 0x0e,
  SECRET: 0x0f,
  RESUME: 0x10,
  ACK: 0x11,
} as const;

export type FrameType = (typeof FRAME_TYPE)[keyof typeof FRAME_TYPE];

/** Neither DATA, nor HELLO, which opens a session and follows a magic. */
export type ControlType = Exclude<FrameType, typeof FRAME_TYPE.DATA | typeof FRAME_TYPE.HELLO>;

const NAMES = new Map<number, string>(Object.entries(FRAME_TYPE).map(([name, type]) => [type, name]));

/** Others up to 7F are unassigned (R-FRAME-5). */
export const isControlType = (type: number): type is ControlType =>
  type !== FRAME_TYPE.DATA && type !== FRAME_TYPE.HELLO && NAMES.has(type);

/** The name of a type, or its two hex digits if it has none. */
export function formatFrameType(type: number): string {
  return NAMES.get(type) ?? type.toString(16).toUpperCase().padStart(2, '0');
}

/** Types that a later version may add and this one skips (R-FRAME-5). */
export function isExtensionType(type: number): boolean {
  return type >= 0x80 && type <= 0xfe;
}

/** The stream id that a frame must have: the session's (`zero`), a stream's (`stream`), or `either`. */
export const STREAM_ID_RULE: Readonly<Record<FrameType, 'zero' | 'stream' | 'either'>> = {
  [FRAME_TYPE.HELLO]: 'zero',
  [FRAME_TYPE.AUTH]: 'zero',
  [FRAME_TYPE.SERVICES]: 'zero',
  [FRAME_TYPE.OPEN]: 'stream',
  [FRAME_TYPE.ACCEPT]: 'stream',
  [FRAME_TYPE.REFUSE]: 'stream',
  [FRAME_TYPE.DATA]: 'stream',
  [FRAME_TYPE.CREDIT]: 'either',
  [FRAME_TYPE.FIN]: 'stream',
  [FRAME_TYPE.STOP]: 'stream',
  [FRAME_TYPE.RESET]: 'stream',
  [FRAME_TYPE.PING]: 'zero',
  [FRAME_TYPE.PONG]: 'zero',
  [FRAME_TYPE.GOAWAY]: 'zero',
  [FRAME_TYPE.SECRET]: 'zero',
  [FRAME_TYPE.RESUME]: 'zero',
  [FRAME_TYPE.ACK]: 'zero',
};

const TABLE = new Uint16Array(256);
for (let index = 0; index < 256; index += 1) {
  let value = index << 8;
  for (let bit = 0; bit < 8; bit += 1) value = value & 0x8000 ? (value << 1) ^ 0x1021 : value << 1;
  TABLE[index] = value & 0xffff;
}

const step = (crc: number, byte: number): number => ((crc << 8) & 0xffff) ^ (TABLE[(crc >> 8) ^ byte] as number);

/** CRC-16/CCITT-FALSE (polynomial 1021, start FFFF, not reflected) of some bytes; of `123456789` it is 29B1. */
export function crc16(bytes: Uint8Array): number {
  let crc = 0xffff;
  for (const byte of bytes) crc = step(crc, byte);
  return crc;
}

/** The check of the header at `offset`, for the frame with this sequence number. */
export function headerCheck(buffer: Buffer, offset: number, sequence: number): number {
  let crc = step(0xffff, sequence >>> 24);
  crc = step(crc, (sequence >>> 16) & 0xff);
  crc = step(crc, (sequence >>> 8) & 0xff);
  crc = step(crc, sequence & 0xff);
  crc = step(crc, buffer[offset] as number);
  crc = step(crc, buffer[offset + 1] as number);
  for (let index = offset + 4; index < offset + 16; index += 1) crc = step(crc, buffer[index] as number);
  return crc;
}

/**
 * `frame`: a trailer after the payload of each DATA frame shows bytes that were lost, repeated or cut off. `full`: its CRC-32
 * shows changed bytes, too. Weakest first.
 */
export const INTEGRITY_LEVELS = ['frame', 'full'] as const;
export type Integrity = (typeof INTEGRITY_LEVELS)[number];

export const isIntegrity = (value: unknown): value is Integrity => INTEGRITY_LEVELS.some((level) => level === value);

/** The level in effect when the two sides ask for these. */
export const strongerIntegrity = (one: Integrity, other: Integrity): Integrity => (one === 'full' ? one : other);

/** Length of the trailer of a DATA frame at level `frame`. */
export const TRAILER_BYTES = 4;

/** Checks the DATA frames of one direction of a session. */
export class DataCheck {
  readonly #level: Integrity;
  readonly #tag: number;

  /** The nonces are those of the establishing HELLOs of the direction's sender and of its receiver. */
  constructor(level: Integrity, senderNonce: string, receiverNonce: string) {
    this.#level = level;
    this.#tag = crc32(Buffer.from(senderNonce + receiverNonce));
  }

  /** Length of the trailer of each DATA frame. */
  get trailerBytes(): number {
    return this.#level === 'frame' ? TRAILER_BYTES : 0;
  }

  /** The CRC field of DATA with this payload. */
  crcOf(payload: Buffer): number {
    return this.#level === 'full' ? crc32(payload) : 0;
  }

  /** The trailer of the frame with this sequence number: u32. */
  trailerOf(sequence: number): number {
    return (this.#tag ^ sequence) >>> 0;
  }
}

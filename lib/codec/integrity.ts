/**
 * How a session finds out what a channel did to its bytes: the two levels, and the trailer behind each payload of DATA in the
 * weaker one (R-INTEGRITY-1 to R-INTEGRITY-4).
 */
import { crc32 } from 'node:zlib';

/**
 * `frame`: a trailer behind the payload of each DATA frame shows bytes that were lost, repeated or cut off. `full`: its CRC-32
 * shows changed ones, too. The stronger one is the last.
 */
export const INTEGRITY_LEVELS = ['frame', 'full'] as const;
export type Integrity = (typeof INTEGRITY_LEVELS)[number];

export const isIntegrity = (value: unknown): value is Integrity => INTEGRITY_LEVELS.some((level) => level === value);

/** What is in force where the two sides ask for these. */
export const strongerIntegrity = (one: Integrity, other: Integrity): Integrity => (one === 'full' ? one : other);

/** Bytes behind the payload of a DATA frame in `frame`. */
export const TRAILER_BYTES = 4;

/** How the DATA frames of one direction of a session are checked. */
export class DataCheck {
  readonly #level: Integrity;
  readonly #tag: number;

  /** The nonces are those of the establishing HELLOs of the direction's sender and of its receiver. */
  constructor(level: Integrity, senderNonce: string, receiverNonce: string) {
    this.#level = level;
    this.#tag = crc32(senderNonce + receiverNonce);
  }

  /** How many bytes there are behind each payload of DATA. */
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

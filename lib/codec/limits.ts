/** The numbers of the protocol: sizes, ranges and defaults (docs/protocol.md, "Limits"). */

/** Bytes of a frame's header (R-FRAME-1). */
export const HEADER_BYTES = 16;

/** The largest payload of every known frame but DATA, in bytes (R-FRAME-4). */
export const MAX_CONTROL_BYTES = 4096;

/** The largest payload of DATA where nothing narrower is set, in bytes. */
export const DEFAULT_FRAME_BYTES = 131_072;

/** The version of the protocol that this code speaks. */
export const PROTOCOL_VERSION = 1;

/** What a side accepts, announced in its HELLO (R-OPEN-4). */
export interface Limits {
  /** The largest DATA payload, in bytes. */
  readonly frame: number;
  /** The first credit of every stream, in bytes. */
  readonly streamCredit: number;
  /** The first credit of the session, in bytes. */
  readonly inFlight: number;
  /** Streams of the peer open at once. */
  readonly streams: number;
  /** Streams of the peer that wait for an answer at once. */
  readonly opens: number;
}

export const DEFAULT_LIMITS: Limits = {
  frame: DEFAULT_FRAME_BYTES,
  streamCredit: 65_536,
  inFlight: 1_048_576,
  streams: 1024,
  opens: 256,
};

/** The range of each limit; a HELLO with a limit outside is not valid. */
export const LIMIT_RANGES: Readonly<Record<keyof Limits, readonly [min: number, max: number]>> = {
  frame: [4096, 1_048_576],
  streamCredit: [1024, 2 ** 30],
  inFlight: [1024, 2 ** 30],
  streams: [1, 2 ** 20],
  opens: [1, 65_536],
};

/** The largest `message` of a frame, in bytes of UTF-8 (R-CODE-2). */
export const MAX_MESSAGE_BYTES = 512;

/** The most ports that a side announces (R-SERVICES-3). */
export const MAX_ANNOUNCED_PORTS = 64;

/** The longest name of a program that stands with a port, in characters (R-SERVICES-3). */
export const MAX_PROGRAM_LENGTH = 32;

/** What a service may be called (R-STREAM-3). */
export const SERVICE_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

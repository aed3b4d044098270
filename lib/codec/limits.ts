/** The numbers of the protocol: sizes, ranges and defaults (docs/protocol.md, "Limits"). */

/** Bytes of a frame's header (R-FRAME-1). */
export const HEADER_BYTES = 16;

/** The largest payload of every known frame except DATA, in bytes (R-FRAME-4). */
export const MAX_CONTROL_BYTES = 4096;

/** The default largest payload of DATA, in bytes. */
export const DEFAULT_FRAME_BYTES = 131_072;

export const PROTOCOL_VERSION = 1;

/** The limits of a side, announced in its HELLO (R-OPEN-4). */
export interface Limits {
  /** The largest DATA payload, in bytes. */
  readonly frame: number;
  /** The initial credit of every stream, in bytes. */
  readonly streamCredit: number;
  /** The initial credit of the session, in bytes. */
  readonly inFlight: number;
  /** Streams of the peer open at once. */
  readonly streams: number;
  /** Unanswered streams of the peer at once. */
  readonly opens: number;
}

export const DEFAULT_LIMITS: Limits = {
  frame: DEFAULT_FRAME_BYTES,
  streamCredit: 65_536,
  inFlight: 1_048_576,
  streams: 1024,
  opens: 256,
};

/** The range of each limit; a HELLO with a limit outside it is invalid. */
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

/** The longest program name announced with a port, in characters (R-SERVICES-3). */
export const MAX_PROGRAM_LENGTH = 32;

/** The syntax of service names (R-STREAM-3). */
export const SERVICE_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/** The names of services for announced ports. */
export const PORT_SERVICE = /^port\.\d+$/;

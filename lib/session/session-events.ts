/** What a session tells of itself: its events, and its counters. */
import type { VproxyError } from '../errors.js';
import type { SessionStream } from './stream.js';

export interface SessionEvents {
  /** The peer opened a stream to a service of a valid name: attach a local end during the call, or it is refused. */
  stream: [stream: SessionStream];
  /** The two sides agree, and each has proved that it has the key where that is demanded: `start` is to be called. */
  ready: [];
  /** The peer's list of services is complete, or has changed. */
  services: [services: ReadonlySet<string>];
  /** A measurement of the round trip is complete, in milliseconds. */
  measured: [roundTripMs: number];
  /** Nothing came for too long, on a link that should be given up; the session is not over. */
  silent: [reason: VproxyError];
  /** It has no link any more: its streams wait. With a reason where the link may be there still, and nothing more of the session came on it. */
  suspended: [reason: VproxyError | null];
  /** It goes on with another link. `againBytes` are written again: the peer may not have them. */
  resumed: [againBytes: number];
  /** No more streams are opened either way; the session ends when those that are open have ended. */
  draining: [reason: VproxyError];
  /** The session is over; all its streams have ended before. Emitted once. */
  end: [reason: VproxyError];
}

/** Amounts since the session was established. */
export interface SessionCounters {
  /** Payload of DATA, in bytes. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** Frames of every type but HELLO. */
  readonly sentFrames: number;
  readonly receivedFrames: number;
  /** For how long nothing passed although something waited, in milliseconds; waits of less than a second do not count. */
  readonly stallMs: number;
  /** Streams that were opened, by either side. */
  readonly streamsOpened: number;
  /** Streams that did not end in order, refused ones included. */
  readonly streamsFailed: number;
}

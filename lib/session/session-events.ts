/** The events of a session, and its counters. */
import type { VproxyError } from '../errors.js';
import type { SessionStream } from './stream.js';

export interface SessionEvents {
  /** The peer opened a stream to a service of a valid name: attach a local end during the call, or the stream is refused. */
  stream: [stream: SessionStream];
  /** The session is established and both sides have proved their key, if required: call `start`. */
  ready: [];
  /** The peer's list of services is complete, or has changed. */
  services: [services: ReadonlySet<string>];
  /** A measurement of the round trip is complete, in milliseconds. */
  measured: [roundTripMs: number];
  /** Nothing was received for too long: drop the link; the session is not over. */
  silent: [reason: VproxyError];
  /** The session lost its link and its streams wait. `reason` is set if the link is still open but out of step. */
  suspended: [reason: VproxyError | null];
  /** The session continues on another link. `againBytes` are sent again: the peer may not have them. */
  resumed: [againBytes: number];
  /** No more streams are opened either way; the session ends once the open ones have ended. */
  draining: [reason: VproxyError];
  /** The session is over, after all its streams. Emitted once. */
  end: [reason: VproxyError];
}

/** Amounts since the session was established. */
export interface SessionCounters {
  /** Payload of DATA, in bytes. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** Frames of every type except HELLO. */
  readonly sentFrames: number;
  readonly receivedFrames: number;
  /** Time in which nothing was sent although something waited, in milliseconds; waits of less than a second do not count. */
  readonly stallMs: number;
  /** Streams opened by either side. */
  readonly streamsOpened: number;
  /** Streams that did not end in order, including refused ones. */
  readonly streamsFailed: number;
}

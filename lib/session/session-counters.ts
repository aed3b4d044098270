/** What went through a session, for whoever watches it. */

/** Amounts since the session was established. */
export interface SessionCounters {
  /** Payload of DATA, in bytes. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** Frames of every type but HELLO. */
  readonly sentFrames: number;
  readonly receivedFrames: number;
  /** For how long the channel took nothing although something waited, in milliseconds. */
  readonly stallMs: number;
  /** Streams that were opened, by either side. */
  readonly streamsOpened: number;
  /** Streams that did not end in order, refused ones included. */
  readonly streamsFailed: number;
}

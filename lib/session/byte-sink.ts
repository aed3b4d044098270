/** What a session writes to: the writing half of a channel, as the session sees it. */

/** Takes bytes for the peer, in order. Implemented by the links of `channel`. */
export interface ByteSink {
  /**
   * Hands bytes over. True: they were taken at once and the buffer is the caller's again. False: the sink keeps the
   * buffer until it was written, and the caller must not touch it any more.
   */
  write(bytes: Buffer): boolean;

  /** How many bytes were handed over and still wait in this process. */
  readonly unwrittenBytes: number;

  /** Between `cork` and `uncork` writes are gathered, to leave in one system call. The two may not be nested. */
  cork(): void;
  uncork(): void;
}

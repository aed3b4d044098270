/** What a session writes to: the writing half of a channel, as the session sees it. */

/** Takes bytes for the peer, in order. Implemented by the links of `channel`. */
export interface ByteSink {
  /**
   * Hands bytes over. True: they were taken at once and the buffer is the caller's again. False: the sink keeps the
   * buffer until it was written, and the caller must not touch it any more.
   */
  write(bytes: Buffer): boolean;

  /** As `write` of both, one behind the other, in as few system calls as that takes. True: both buffers are the caller's again. */
  writePair(first: Buffer, second: Buffer): boolean;

  /** How many bytes were handed over and still wait in this process. */
  readonly unwrittenBytes: number;
}

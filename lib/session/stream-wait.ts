/** Whom a stream waits for, for people who ask why nothing moves. */
import type { SessionStream } from './session-stream.js';

/** Every answer. */
export const STREAM_WAITS = ['answer', 'channel', 'peer', 'session', 'local'] as const;

/**
 * `answer`: the stream is not accepted yet. `channel`: bytes wait for their turn in the channel. `peer`: bytes wait
 * because the program at the other end does not read. `session`: they wait for credit of the session. `local`: bytes
 * that came wait for the program on this side to read.
 */
export type StreamWait = (typeof STREAM_WAITS)[number];

/** Null where nothing waits. `sessionCreditBytes` is what the session's credit leaves to be sent. */
export function streamWait(stream: SessionStream, sessionCreditBytes: number): StreamWait | null {
  if (!stream.isAnswered) return 'answer';
  if (stream.isWaiting) {
    if (stream.sendCreditBytes <= 0) return 'peer';
    return sessionCreditBytes <= 0 ? 'session' : 'channel';
  }
  return stream.heldBytes > 0 ? 'local' : null;
}

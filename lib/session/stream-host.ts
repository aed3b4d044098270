/** What a stream needs of the session that it is a part of. */
import type { VproxyError } from '../errors.js';
import type { SessionStream } from './session-stream.js';

/** The session, as its streams see it. */
export interface StreamHost {
  readonly nowMs: number;
  readonly roundTripMs: number;
  /** The largest DATA payload that is good to send on a stream at this moment, in bytes. */
  frameBytes(streamId: number): number;
  /** The stream has data and credit: the session calls its `sendFrame`, now or when its turn comes. */
  offer(stream: SessionStream): void;
  /** Sends a control frame, behind those that wait. */
  control(type: number, streamId: number, payload: Buffer): void;
  /** The stream's credit was raised. */
  raise(stream: SessionStream): void;
  /** The stream was answered, or is over before it was. */
  answered(stream: SessionStream): void;
  /** This side opened the stream, and has reset it before an answer. Comes instead of `answered`. */
  retracted(): void;
  /** The stream is over for the protocol: with a reason where it did not end in order. */
  over(stream: SessionStream, reason: VproxyError | null): void;
  /** A stream that was over has been drained: its place is free. */
  drained(stream: SessionStream): void;
}

/** What the log events about a stream say of it, for programs. */
import type { LogEvent } from '../util/log-event.js';

/** What is said of a stream. */
export interface StreamFacts {
  readonly id: number;
  readonly from: string | null;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** By the session's clock. */
  readonly openedAtMs: number;
}

/** How a stream ended: with the code of an error, or, without one, in order. */
export interface StreamEnding {
  readonly code?: string;
}

/**
 * The stream's number, null where there is none; with `ending` also what went through it, for how long it was there at
 * `nowMs`, and its code or null.
 */
export function streamFields(nowMs: number, stream?: StreamFacts, ending?: StreamEnding): LogEvent['fields'] {
  if (stream === undefined) return { stream: null };
  const { id, from, sentBytes, receivedBytes } = stream;
  if (ending === undefined) return { stream: id, from };
  const durationMs = Math.round(nowMs - stream.openedAtMs);
  return { stream: id, from, sentBytes, receivedBytes, durationMs, code: ending.code ?? null };
}

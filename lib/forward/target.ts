/** What an incoming forward leads its streams to. */
import type { VproxyError } from '../errors.js';
import type { SessionStream } from '../session/session-stream.js';
import type { Clock } from '../util/clock.js';
import type { LogEventName, LogLevel } from '../util/log-event.js';
import type { InputFilter } from './input-filter.js';

/** Serves the streams of one service. */
export interface Target {
  /** Serves one stream: attaches a sink to it at once, or refuses it; accepts it when it is known to work. */
  serve(stream: SessionStream): void;
  /** Local ends that are not done with. */
  readonly openCount: number;
  /** Ends what is still open. Resolves when it has. */
  stop(): Promise<void> | void;
}

/** What a target gets from its forward. */
export interface TargetContext {
  /** The endpoint and the service, for people: `127.0.0.1:22 (ssh)`. */
  readonly name: string;
  readonly clock: Clock;
  /** How many streams may be served at once, those being closed included. */
  readonly maxStreams: number;
  /** What comes between a new stream and its local end; null for nothing. Default null. */
  readonly createFilter?: () => InputFilter | null;
  /** A stream was accepted. */
  readonly onOpened: (stream: SessionStream) => void;
  /** A stream and its local end are done with; null when both directions ended in order. */
  readonly onClosed: (stream: SessionStream, reason: VproxyError | null) => void;
  /** What a socket of the target is given before the stream's first byte; null: nothing. */
  readonly preamble: ((stream: SessionStream) => Buffer) | null;
  readonly log: (level: LogLevel, event: LogEventName, message: string, stream?: SessionStream) => void;
}

/** Refuses a stream where as many are served as may be. True when it did. */
export function refuseBeyond(stream: SessionStream, openCount: number, maxStreams: number): boolean {
  if (openCount < maxStreams) return false;
  stream.refuse('too-many-streams', `${maxStreams} connections to the target are open or being closed`);
  return true;
}

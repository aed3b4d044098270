/** What a session is given, and what it shows: settings and link, state and phases, events and counters. */
import type { FrameReaderState, FrameTimerState } from '../codec/frame-reader.js';
import type { ByteSink } from '../codec/frame-writer.js';
import type { VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import type { InFlightCreditState } from './flow.js';
import type { LeavingState, LivenessState } from './liveness.js';
import type { Agreement } from './opening/agreement.js';
import type { SecretKey } from './opening/auth.js';
import type { ContinuityState, KeptBounds } from './resume/continuity.js';
import type { SchedulerState } from './scheduler.js';
import type { OwnServicesState, PeerServicesState } from './services.js';
import type { StreamState } from './stream.js';
import type { StreamSettings, StreamTableState } from './streams.js';

/** Settings that apply once two HELLOs agree. */
export interface EstablishedSettings extends StreamSettings {
  /** This side's current keys, preferred first; with one it accepts no peer without (R-AUTH-2). Default: none. */
  readonly keys: () => readonly SecretKey[];
  /** Ends a session after this much silence; null: never (R-LIVE-2). */
  readonly deadAfterMs: number | null;
  /** How sessions outlive their links; null: they do not (R-RESUME-1). Default null. */
  readonly resume: KeptBounds | null;
  /** The time of day in milliseconds since 1970, sent to the peer (R-SERVICES-1); null: not sent. Default null. */
  readonly timeOfDay: (() => number) | null;
  /** Random bytes for nonces. */
  readonly randomBytes: (size: number) => Buffer;
}

/** The link of a session, as the session sees it. */
export interface SessionLink {
  /** The outcome of the HELLOs on this link. */
  readonly agreement: Agreement;
  readonly sink: ByteSink;
  /** Asked after each header and each payload: true ends `receive` before all is read. Default: never. */
  readonly isTurnOver?: () => boolean;
  /** Whether its secure layer, if any, has an incomplete record. Default: never. */
  readonly isMidRecord?: () => boolean;
}

export interface SessionContext extends Omit<SessionLink, 'agreement' | 'sink'> {
  /** The sink of its link, which continues after the last byte of a restored session; null: it has no link, or loses it now. */
  readonly sink: ByteSink | null;
  readonly clock: Clock;
  readonly settings: EstablishedSettings;
  /** The state of a session that continues here. Default: a new session. */
  readonly state?: SessionState;
  /** This side's first stream id, of the parity that the agreement gives it. Default 1 or 2. */
  readonly firstStreamId?: number;
}

/** The state of an established session: consistent between any two calls, with or without a link. */
export interface SessionState extends SessionFacts {
  readonly reader: FrameReaderState;
  readonly frameTimer: FrameTimerState;
  readonly scheduler: SchedulerState;
  readonly credit: InFlightCreditState;
  readonly liveness: LivenessState;
  readonly leaving: LeavingState;
  readonly ownServices: OwnServicesState;
  readonly peerServices: PeerServicesState;
  /** Null if the session ends with its link. Includes the secret of a resumable session. */
  readonly continuity: ContinuityState | null;
  readonly table: StreamTableState;
  /** In the order of `StreamTable.listAll`. */
  readonly streams: readonly StreamState[];
}

/** The part of the state kept by the session itself. */
export interface SessionFacts {
  /** The agreement that established it, and the one on its current or last link. */
  readonly agreement: Agreement;
  link: Agreement;
  phase: SessionPhase;
  /** The id of the key that both sides have proved; null if neither required one. */
  keyId: string | null;
  startedAtMs: number;
  receivedChunks: number;
  /** Whether `measured` is still to be emitted. */
  isMeasureDue: boolean;
}

/** The states of a session, with their possible successors. */
export const SESSION_STATES = {
  /** The two sides agree; each has yet to prove its key, if one is required. */
  proving: ['open', 'refused'],
  open: ['draining', 'suspended', 'ended'],
  /** No more streams are opened either way. */
  draining: ['suspended', 'ended'],
  /** It has no link: its streams wait for the next one. */
  suspended: ['open', 'draining', 'ended'],
  /** Over before it was established. */
  refused: [],
  ended: [],
} as const;
export type SessionPhase = keyof typeof SESSION_STATES;

export const factsOf = (agreement: Agreement, nowMs: number, state?: SessionFacts): SessionFacts => {
  const { link = agreement, phase = 'proving', keyId = null, receivedChunks = 0, isMeasureDue = false } = state ?? {};
  const { startedAtMs = nowMs } = state ?? {};
  return { agreement, link, phase, keyId, startedAtMs, receivedChunks, isMeasureDue };
};

export interface SessionEvents {
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
  /** How long data has waited while nothing was sent, in milliseconds, without waits of less than a second. */
  readonly stallMs: number;
  /** Streams opened by either side. */
  readonly streamsOpened: number;
  /** Streams that did not end in order, including refused ones. */
  readonly streamsFailed: number;
}

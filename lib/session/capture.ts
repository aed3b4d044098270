/**
 * An established session as plain data, with which another process takes it over: at any moment between two calls, with its link
 * or without. Amounts are in bytes, times in milliseconds from the moment of the capture on, as clocks differ between processes.
 */

import type { FrameReaderCapture, FrameTimerCapture } from '../codec/frame-reader.js';
import type { ByteSink } from '../codec/frame-writer.js';
import { copyAlone } from '../util/byte-queue.js';
import type { Clock } from '../util/clock.js';
import type { Agreement } from './agreement.js';
import type { InFlightCreditCapture } from './flow.js';
import type { LeavingCapture, LivenessCapture } from './liveness.js';
import type { ContinuityCapture } from './resume/continuity.js';
import type { SchedulerCapture } from './scheduler.js';
import type { OwnServicesCapture, PeerServicesCapture } from './services.js';
import type { SessionSettings } from './settings.js';
import type { SessionStream, StreamCapture } from './stream.js';
import type { StreamTableCapture } from './streams.js';

/** A session as plain data. Where it can be taken up again, its secret is in it. */
export interface SessionCapture {
  /** What the HELLOs agreed on that established it, and those on the link that it has, or had last. */
  readonly agreement: Agreement;
  readonly link: Agreement;
  readonly keyId: string | null;
  readonly ageMs: number;
  readonly receivedChunks: number;
  /** Whether somebody waits for `measured`. */
  readonly isMeasureDue: boolean;
  readonly reader: FrameReaderCapture;
  readonly frameTimer: FrameTimerCapture;
  readonly scheduler: SchedulerCapture;
  readonly credit: InFlightCreditCapture;
  readonly liveness: LivenessCapture;
  readonly leaving: LeavingCapture;
  readonly ownServices: OwnServicesCapture;
  readonly peerServices: PeerServicesCapture;
  /** Null where the session ends with its link. */
  readonly continuity: ContinuityCapture | null;
  readonly table: StreamTableCapture;
  /** Streams that are open, then those whose opening is held back, then those that are over with bytes still on this side. */
  readonly streams: readonly StreamCapture[];
}

/** What `Session.capture` gives: each of the `streams` is that of the capture's at the same place. */
export interface CapturedSession {
  readonly capture: SessionCapture;
  readonly streams: readonly SessionStream[];
}

/** What a session needs to be restored. */
export interface RestoreContext {
  /** That of its link, which goes on behind the last byte that was given to the old one; null: it has no link, or loses it by that. */
  readonly sink: ByteSink | null;
  readonly clock: Clock;
  readonly settings: SessionSettings;
  /** As for a new session. Default: never. */
  readonly isTurnOver?: () => boolean;
}

/** An agreement that keeps nothing else of a capture alive. */
export const copyAgreement = (agreement: Agreement): Agreement => ({
  ...agreement,
  selfPayload: copyAlone(agreement.selfPayload),
  peerPayload: copyAlone(agreement.peerPayload),
});

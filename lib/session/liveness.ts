/** The lifetime of a session: watching for silence, and leaving in order (R-LIVE-1 to R-LIVE-3, R-STREAM-6). */

import { type FrameReader, FrameTimer, type FrameTimerState } from '../codec/frame-reader.js';
import { fromReason, type Reason, toReason } from '../codec/json.js';
import { VproxyError } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import type { InFlightCredit } from './flow.js';
import type { Scheduler } from './scheduler.js';

/** A PING is sent when nothing was sent for this time. */
const PING_AFTER_MS = 10_000;

/** The interval of the checks for silence. */
const TICK_MS = 2500;

/** The share of it that a check may wait for those of other sessions: a thousand wake the process ten times a second, not 400 times. */
const TICK_SLACK = 0.04;

/** After this long without an answer to what was sent, bytes may have been lost. */
const DOUBT_AFTER_MS = 1500;

/** An idle peer is heard at least this often: a PING is sent at the second tick without a byte, and answered. */
const HEARD_WITHIN_MS = 2 * TICK_MS;

/** After this long, the answer to a PING is overdue. */
const ANSWER_WITHIN_MS = 1000;

interface LivenessOptions {
  readonly clock: Clock;
  /** Silence after which the peer counts as dead; null: never. */
  readonly deadAfterMs: number | null;
  readonly reader: FrameReader;
  readonly scheduler: Scheduler;
  readonly credit: InFlightCredit;
  /** A counter that changes whenever something was received. */
  readonly receivedCount: () => number;
  /** Whether the session is established and has a link. */
  readonly isLinked: () => boolean;
  /** Whether the secure layer of its link, if any, has an incomplete record. */
  readonly isMidRecord: () => boolean;
  readonly onDead: (reason: VproxyError) => void;
}

export interface LivenessState {
  /** When the last check was made. */
  tickedAtMs: number;
  /** The session's counters of received and sent frames at that time. */
  received: number;
  sent: number;
  silentMs: number;
  quietMs: number;
  sincePingMs: number;
}

const newState = (nowMs: number): LivenessState => {
  return { tickedAtMs: nowMs, received: 0, sent: 0, silentMs: 0, quietMs: 0, sincePingMs: 0 };
};

/**
 * Watches a session for silence from `start` on: sends PINGs, asks for what may be lost, and reports a dead peer
 * (R-LIVE-1, R-LIVE-2, R-LIVE-4).
 */
export class Liveness {
  readonly state: LivenessState;
  readonly #options: LivenessOptions;
  readonly #tickMs: number;
  #frameTimer: FrameTimer;
  #cancel: CancelTimer | null = null;
  /** Whether a PING was sent in doubt and nothing has come since. */
  #hasAsked = false;
  /** Frames that had been sent when bytes last came. */
  #answeredFrames = 0;
  /** When the first PING since the last byte was sent. */
  #askedAtMs: number | null = null;

  constructor(options: LivenessOptions, state?: LivenessState, timer?: FrameTimerState) {
    const nowMs = options.clock.now();
    this.state = state ?? newState(nowMs);
    this.#options = options;
    this.#tickMs = Math.min(TICK_MS, (options.deadAfterMs ?? TICK_MS * 4) / 4);
    this.#frameTimer = new FrameTimer(nowMs, timer);
  }

  get timerState(): FrameTimerState {
    return this.#frameTimer.state;
  }

  /** Call before arriving bytes are read: whether the incomplete frame has taken too long. */
  isFrameOverdue(): boolean {
    const { clock, reader } = this.#options;
    return this.#frameTimer.isExceeded(reader.sequence, reader.isMidFrame, clock.now());
  }

  /** Bytes of the peer were read. */
  handleReceived(): void {
    this.#answeredFrames = this.#options.scheduler.sentFrames;
    this.#askedAtMs = null;
  }

  /** The time since the last byte if an answer is overdue, in milliseconds; otherwise null. */
  get overdueMs(): number | null {
    const { clock, scheduler } = this.#options;
    const nowMs = clock.now();
    const gapMs = this.#frameTimer.gapMs(nowMs);
    // A peer that does not read leaves no room for a PING.
    const isStuck = !scheduler.isIdle && this.state.quietMs >= HEARD_WITHIN_MS;
    const isOverdue = isStuck || nowMs - (this.#askedAtMs ?? nowMs) >= ANSWER_WITHIN_MS;
    return gapMs >= HEARD_WITHIN_MS && isOverdue ? gapMs : null;
  }

  /** Starts again, on another link. */
  restart(): void {
    const nowMs = this.#options.clock.now();
    Object.assign(this.state, newState(nowMs));
    this.#frameTimer = new FrameTimer(nowMs);
    this.#hasAsked = false;
    this.#askedAtMs = null;
    this.start();
  }

  start(): void {
    const { clock } = this.#options;
    const leftMs = this.#tickMs - (clock.now() - this.state.tickedAtMs);
    this.#cancel = clock.schedule(Math.max(0, leftMs), () => this.#tick(), TICK_SLACK * this.#tickMs);
  }

  stop(): void {
    this.#cancel?.();
  }

  #tick(): void {
    const { clock, deadAfterMs, receivedCount, scheduler, onDead } = this.#options;
    const { state } = this;
    const nowMs = clock.now();
    // A tick that is far too late means that this process or its VM stood still: that time tells nothing about the peer.
    const elapsedMs = Math.min(nowMs - state.tickedAtMs, 2 * this.#tickMs);
    state.tickedAtMs = nowMs;
    this.start();

    const received = receivedCount();
    const sent = scheduler.sentFrames;
    const hasReceived = received !== state.received;
    state.silentMs = hasReceived ? 0 : state.silentMs + elapsedMs;
    state.quietMs = sent === state.sent ? state.quietMs + elapsedMs : 0;
    state.sincePingMs += elapsedMs;
    state.received = received;
    state.sent = sent;

    if (deadAfterMs !== null && state.silentMs >= deadAfterMs) {
      onDead(new VproxyError('channel-silent', `nothing received for ${Math.round(state.silentMs / 1000)} s`));
      return;
    }
    if (hasReceived) this.#hasAsked = false;
    if (!this.#hasAsked && this.#isInDoubt() && this.#askForLoss()) {
      this.#hasAsked = true;
      state.sincePingMs = 0;
    }
    const pingAfterMs = Math.min(PING_AFTER_MS, (deadAfterMs ?? Number.POSITIVE_INFINITY) / 2);
    const isQuiet = Math.min(state.quietMs, state.sincePingMs) >= pingAfterMs;
    // Every second tick, at which nothing has come since the last one. What the peer wrote may wait in a virtio-serial port that
    // lost a wake-up, until a byte comes from this side.
    if (isQuiet || (!hasReceived && state.sincePingMs > 1.5 * this.#tickMs)) {
      state.sincePingMs = 0;
      this.#pingIfIdle();
    }
  }

  /** Makes the peer send something, unless an answer is on its way. */
  ask(): void {
    if (!this.#options.credit.roundTrip.isMeasuring) this.#pingIfIdle();
  }

  /** While something waits to be written a PING would only queue behind it, and a peer may be paused for days. */
  #pingIfIdle(): void {
    const { isLinked, scheduler } = this.#options;
    if (isLinked() && scheduler.isIdle) this.#ping();
  }

  #ping(): Buffer {
    const { clock, credit } = this.#options;
    this.#askedAtMs ??= clock.now();
    return credit.ping();
  }

  /** Whether a frame or record is incomplete, or something sent has gone unanswered for too long (R-LIVE-4). */
  #isInDoubt(): boolean {
    const { clock, isMidRecord, reader, scheduler } = this.#options;
    if (reader.isMidFrame || isMidRecord()) return true;
    return scheduler.sentFrames > this.#answeredFrames && this.#frameTimer.gapMs(clock.now()) >= DOUBT_AFTER_MS;
  }

  /** Asks the peer for an answer that shows whether the current frame lost bytes (R-LIVE-4). False if that has to wait. */
  #askForLoss(): boolean {
    const { credit, isLinked, reader, scheduler } = this.#options;
    const canAsk = isLinked() && (scheduler.isIdle || !credit.roundTrip.isMeasuring);
    if (canAsk) reader.expectBehind(this.#ping());
    return canAsk;
  }
}

/** When the stream ids run out, the session is renewed after this time at the latest. */
const RENEW_MS = 3_600_000;

/** How long streams may continue after GOAWAY `shutdown`. */
const DRAIN_MS = 30_000;

export interface LeavingState {
  drainReason: Reason | null;
  renewReason: Reason | null;
  /** Null while it is not leaving. */
  endsAtMs: number | null;
}

/** The orderly end of a session: whether it is draining or due for renewal, and the time it has left (R-LIVE-3, R-STREAM-6). */
export class Leaving {
  readonly state: LeavingState;
  readonly #clock: Clock;
  readonly #onTimeout: (reason: VproxyError) => void;
  #cancel: CancelTimer | null = null;

  /** `onTimeout`: everything still open must end. With the `state` of another one, call `goOn` next. */
  constructor(
    clock: Clock,
    onTimeout: (reason: VproxyError) => void,
    state: LeavingState = { drainReason: null, renewReason: null, endsAtMs: null },
  ) {
    this.state = state;
    this.#clock = clock;
    this.#onTimeout = onTimeout;
  }

  /** Restarts the timer of a session that is leaving. */
  goOn(): void {
    const reason = this.drainReason ?? fromReason(this.state.renewReason);
    if (reason !== null) this.#schedule(reason);
  }

  /** Why no more streams are opened; null while the session is not draining. */
  get drainReason(): VproxyError | null {
    return fromReason(this.state.drainReason);
  }

  /** Stops opening streams; the open ones have the drain timeout. */
  drain(reason: VproxyError): void {
    this.state.drainReason = toReason(reason);
    this.#setDeadline(DRAIN_MS, reason);
  }

  /** Stream ids are not reused: the session ends as soon as it is idle, or after an hour. */
  renew(): void {
    const { state } = this;
    if (state.drainReason !== null || state.renewReason !== null) return;
    const reason = new VproxyError('shutdown', 'out of stream ids');
    state.renewReason = toReason(reason);
    this.#setDeadline(RENEW_MS, reason);
  }

  stop(): void {
    this.#cancel?.();
  }

  #setDeadline(delayMs: number, reason: VproxyError): void {
    this.#cancel?.();
    this.state.endsAtMs = this.#clock.now() + delayMs;
    this.#schedule(reason);
  }

  #schedule(reason: VproxyError): void {
    const leftMs = (this.state.endsAtMs ?? 0) - this.#clock.now();
    this.#cancel = this.#clock.schedule(Math.max(0, leftMs), () => this.#onTimeout(reason));
  }
}

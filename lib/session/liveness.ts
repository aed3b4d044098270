/** The lifetime of a session: watching for silence, and leaving in order (R-LIVE-1 to R-LIVE-3, R-STREAM-6). */

import { fromReason, type Reason, toReason } from '../codec/json.js';
import { VproxyError } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';

/** A PING is sent when nothing was sent for this time. */
const PING_AFTER_MS = 10_000;

/** The interval of the checks for silence. */
const TICK_MS = 2500;

interface LivenessOptions {
  readonly clock: Clock;
  /** Silence after which the peer counts as dead; null: never. */
  readonly deadAfterMs: number | null;
  /** Counters that change whenever something was received, or sent. */
  readonly receivedCount: () => number;
  readonly sentCount: () => number;
  /** Whether something was sent since bytes last came, or a frame is incomplete. */
  readonly isInDoubt: () => boolean;
  readonly onPingDue: () => void;
  /** Bytes may be lost (R-LIVE-4). Returns false if a PING cannot be sent now. */
  readonly onDoubt: () => boolean;
  readonly onDead: (silentMs: number) => void;
}

/** The state of a {@link Liveness}. */
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

/** Watches a session for silence from `start` on: asks for PINGs, and reports a dead peer (R-LIVE-1, R-LIVE-2). */
export class Liveness {
  readonly state: LivenessState;
  readonly #options: LivenessOptions;
  readonly #tickMs: number;
  #cancel: CancelTimer | null = null;
  /** Whether a PING was sent in doubt and nothing has come since. */
  #hasAsked = false;

  constructor(
    options: LivenessOptions,
    state = { tickedAtMs: options.clock.now(), received: 0, sent: 0, silentMs: 0, quietMs: 0, sincePingMs: 0 },
  ) {
    this.state = state;
    this.#options = options;
    this.#tickMs = Math.min(TICK_MS, (options.deadAfterMs ?? TICK_MS * 4) / 4);
  }

  start(): void {
    const { clock } = this.#options;
    const leftMs = this.#tickMs - (clock.now() - this.state.tickedAtMs);
    this.#cancel = clock.schedule(Math.max(0, leftMs), () => this.#tick());
  }

  stop(): void {
    this.#cancel?.();
  }

  #tick(): void {
    const { clock, deadAfterMs, receivedCount, sentCount, isInDoubt, onPingDue, onDoubt, onDead } = this.#options;
    const { state } = this;
    const nowMs = clock.now();
    // A tick that is far too late means that this process or its VM stood still: that time tells nothing about the peer.
    const elapsedMs = Math.min(nowMs - state.tickedAtMs, 2 * this.#tickMs);
    state.tickedAtMs = nowMs;
    this.start();

    const received = receivedCount();
    const sent = sentCount();
    const hasReceived = received !== state.received;
    state.silentMs = hasReceived ? 0 : state.silentMs + elapsedMs;
    state.quietMs = sent === state.sent ? state.quietMs + elapsedMs : 0;
    state.sincePingMs += elapsedMs;
    state.received = received;
    state.sent = sent;

    if (deadAfterMs !== null && state.silentMs >= deadAfterMs) {
      onDead(state.silentMs);
      return;
    }
    if (hasReceived) this.#hasAsked = false;
    if (!this.#hasAsked && isInDoubt() && onDoubt()) {
      this.#hasAsked = true;
      state.sincePingMs = 0;
    }
    const pingAfterMs = Math.min(PING_AFTER_MS, (deadAfterMs ?? Number.POSITIVE_INFINITY) / 2);
    const isQuiet = Math.min(state.quietMs, state.sincePingMs) >= pingAfterMs;
    // Every second tick, at which nothing has come since the last one. What the peer wrote may wait in a virtio-serial port that
    // lost a wake-up, until a byte comes from this side.
    if (isQuiet || (!hasReceived && state.sincePingMs > 1.5 * this.#tickMs)) {
      state.sincePingMs = 0;
      onPingDue();
    }
  }
}

/** When the stream ids run out, the session is renewed after this time at the latest. */
const RENEW_MS = 3_600_000;

/** The reason and the deadline of a {@link Leaving}. */
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
  readonly #drainTimeoutMs: number;
  readonly #onTimeout: (reason: VproxyError) => void;
  #cancel: CancelTimer | null = null;

  /** With the `state` of another one, call `goOn` next. */
  constructor(
    options: {
      readonly clock: Clock;
      readonly drainTimeoutMs: number;
      /** The time is up: everything still open must end. */
      readonly onTimeout: (reason: VproxyError) => void;
    },
    state: LeavingState = { drainReason: null, renewReason: null, endsAtMs: null },
  ) {
    this.state = state;
    this.#clock = options.clock;
    this.#drainTimeoutMs = options.drainTimeoutMs;
    this.#onTimeout = options.onTimeout;
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
    this.#setDeadline(this.#drainTimeoutMs, reason);
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

/** How long a session lasts: it is watched for silence, and leaves in order (R-LIVE-1 to R-LIVE-3, R-STREAM-6). */

import { fromReason, type Reason, toReason } from '../codec/json.js';
import { VproxyError } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';

/** A PING goes out when nothing was sent, or nothing received, for this time. */
const PING_AFTER_MS = 10_000;

/** How often the silence is looked at. */
const TICK_MS = 2500;

interface LivenessOptions {
  readonly clock: Clock;
  /** Silence for so long is death; null: never. */
  readonly deadAfterMs: number | null;
  /** Numbers that change whenever something was received, or sent. */
  readonly receivedCount: () => number;
  readonly sentCount: () => number;
  /** Whether something was sent since something came last, or a frame has begun and is not whole. */
  readonly isInDoubt: () => boolean;
  readonly onPingDue: () => void;
  /** Bytes may be lost (R-LIVE-4). False where a PING cannot go out now. */
  readonly onDoubt: () => boolean;
  readonly onDead: (silentMs: number) => void;
}

/** What a {@link Liveness} has seen. */
export interface LivenessState {
  /** When the silence was looked at. */
  tickedAtMs: number;
  /** What had been received and sent by then, as the session counts it. */
  received: number;
  sent: number;
  silentMs: number;
  quietMs: number;
  sincePingMs: number;
}

/** Watches a session's silence from `start` on: asks for PINGs, and says where silence is death (R-LIVE-1, R-LIVE-2). */
export class Liveness {
  readonly state: LivenessState;
  readonly #options: LivenessOptions;
  readonly #tickMs: number;
  #cancel: CancelTimer | null = null;
  /** Whether a PING went out in doubt, and nothing has come since. */
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
    // A tick that comes much too late means that this process or its VM stood still: that time says nothing of the peer.
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
    if (Math.max(state.silentMs, state.quietMs) >= pingAfterMs && state.sincePingMs >= pingAfterMs) {
      state.sincePingMs = 0;
      onPingDue();
    }
  }
}

/** When the stream ids are used up, the session is renewed at the latest after this time. */
const RENEW_MS = 3_600_000;

/** Why and until when a session leaves, in a {@link Leaving}. */
export interface LeavingState {
  drainReason: Reason | null;
  renewReason: Reason | null;
  /** Null where it does not leave. */
  endsAtMs: number | null;
}

/** Leaving a session in an orderly way: whether it drains, or has to be renewed, and the time that it has left (R-LIVE-3, R-STREAM-6). */
export class Leaving {
  readonly state: LeavingState;
  readonly #clock: Clock;
  readonly #drainTimeoutMs: number;
  readonly #onTimeout: (reason: VproxyError) => void;
  #cancel: CancelTimer | null = null;

  /** With the `state` of another one `goOn` is to follow. */
  constructor(
    options: {
      readonly clock: Clock;
      readonly drainTimeoutMs: number;
      /** The time is up: all that is open has to end. */
      readonly onTimeout: (reason: VproxyError) => void;
    },
    state: LeavingState = { drainReason: null, renewReason: null, endsAtMs: null },
  ) {
    this.state = state;
    this.#clock = options.clock;
    this.#drainTimeoutMs = options.drainTimeoutMs;
    this.#onTimeout = options.onTimeout;
  }

  /** From now on its time runs, where it leaves. */
  goOn(): void {
    const reason = this.drainReason ?? fromReason(this.state.renewReason);
    if (reason !== null) this.#schedule(reason);
  }

  /** Why no stream is opened any more; null while the session does not drain. */
  get drainReason(): VproxyError | null {
    return fromReason(this.state.drainReason);
  }

  /** No stream is opened any more; those that are open have the drain's time. */
  drain(reason: VproxyError): void {
    this.state.drainReason = toReason(reason);
    this.#setDeadline(this.#drainTimeoutMs, reason);
  }

  /** Stream ids do not come back: the session ends as soon as it is idle, or after an hour. */
  renew(): void {
    const { state } = this;
    if (state.drainReason !== null || state.renewReason !== null) return;
    const reason = new VproxyError('shutdown', 'the stream ids are used up');
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

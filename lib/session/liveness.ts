/** How long a session lasts: it is watched for silence, and leaves in order (R-LIVE-1 to R-LIVE-3, R-STREAM-6). */

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
  readonly onPingDue: () => void;
  readonly onDead: (silentMs: number) => void;
}

/** Watches a session's silence: asks for PINGs, and says where silence is death (R-LIVE-1, R-LIVE-2). */
export class Liveness {
  readonly #options: LivenessOptions;
  readonly #tickMs: number;
  #cancel: CancelTimer;
  #tickedAtMs: number;
  #received = 0;
  #sent = 0;
  #silentMs = 0;
  #quietMs = 0;
  #sincePingMs = 0;

  constructor(options: LivenessOptions) {
    this.#options = options;
    this.#tickMs = Math.min(TICK_MS, (options.deadAfterMs ?? TICK_MS * 4) / 4);
    this.#tickedAtMs = options.clock.now();
    this.#cancel = options.clock.schedule(this.#tickMs, () => this.#tick());
  }

  stop(): void {
    this.#cancel();
  }

  #tick(): void {
    const { clock, deadAfterMs, receivedCount, sentCount, onPingDue, onDead } = this.#options;
    const nowMs = clock.now();
    // A tick that comes much too late means that this process or its VM stood still: that time says nothing of the peer.
    const elapsedMs = Math.min(nowMs - this.#tickedAtMs, 2 * this.#tickMs);
    this.#tickedAtMs = nowMs;
    this.#cancel = clock.schedule(this.#tickMs, () => this.#tick());

    const received = receivedCount();
    const sent = sentCount();
    this.#silentMs = received === this.#received ? this.#silentMs + elapsedMs : 0;
    this.#quietMs = sent === this.#sent ? this.#quietMs + elapsedMs : 0;
    this.#sincePingMs += elapsedMs;
    this.#received = received;
    this.#sent = sent;

    if (deadAfterMs !== null && this.#silentMs >= deadAfterMs) {
      onDead(this.#silentMs);
      return;
    }
    const pingAfterMs = Math.min(PING_AFTER_MS, (deadAfterMs ?? Number.POSITIVE_INFINITY) / 2);
    if (Math.max(this.#silentMs, this.#quietMs) >= pingAfterMs && this.#sincePingMs >= pingAfterMs) {
      this.#sincePingMs = 0;
      onPingDue();
    }
  }
}

/** When the stream ids are used up, the session is renewed at the latest after this time. */
const RENEW_MS = 3_600_000;

/** Leaving a session in an orderly way: whether it drains, or has to be renewed, and the time that it has left (R-LIVE-3, R-STREAM-6). */
export class Leaving {
  readonly #clock: Clock;
  readonly #drainTimeoutMs: number;
  readonly #onTimeout: (reason: VproxyError) => void;
  #drainReason: VproxyError | null = null;
  #renewReason: VproxyError | null = null;
  #cancel: CancelTimer | null = null;

  constructor(options: {
    readonly clock: Clock;
    readonly drainTimeoutMs: number;
    /** The time is up: all that is open has to end. */
    readonly onTimeout: (reason: VproxyError) => void;
  }) {
    this.#clock = options.clock;
    this.#drainTimeoutMs = options.drainTimeoutMs;
    this.#onTimeout = options.onTimeout;
  }

  /** Why no stream is opened any more; null while the session does not drain. */
  get drainReason(): VproxyError | null {
    return this.#drainReason;
  }

  /** No stream is opened any more; those that are open have the drain's time. */
  drain(reason: VproxyError): void {
    this.#drainReason = reason;
    this.#setDeadline(this.#drainTimeoutMs, reason);
  }

  /** Stream ids do not come back: the session ends as soon as it is idle, or after an hour. */
  renew(): void {
    if (this.#drainReason !== null || this.#renewReason !== null) return;
    this.#renewReason = new VproxyError('shutdown', 'the stream ids are used up');
    this.#setDeadline(RENEW_MS, this.#renewReason);
  }

  stop(): void {
    this.#cancel?.();
  }

  #setDeadline(delayMs: number, reason: VproxyError): void {
    this.#cancel?.();
    this.#cancel = this.#clock.schedule(delayMs, () => this.#onTimeout(reason));
  }
}

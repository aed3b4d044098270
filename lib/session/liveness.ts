/** How long a session lasts: it is watched for silence, and leaves in order (R-LIVE-1 to R-LIVE-3, R-STREAM-6). */

import type { Reason } from '../codec/json.js';
import { VproxyError } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { fromReason, toReason } from './reason.js';

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

/** What a {@link Liveness} has seen, as plain data. */
export interface LivenessCapture {
  /** How long ago the silence was looked at, in milliseconds. */
  readonly tickedAgoMs: number;
  readonly received: number;
  readonly sent: number;
  readonly silentMs: number;
  readonly quietMs: number;
  readonly sincePingMs: number;
}

/** Watches a session's silence from `start` on: asks for PINGs, and says where silence is death (R-LIVE-1, R-LIVE-2). */
export class Liveness {
  readonly #options: LivenessOptions;
  readonly #tickMs: number;
  #cancel: CancelTimer | null = null;
  #tickedAtMs: number;
  #received = 0;
  #sent = 0;
  #silentMs = 0;
  #quietMs = 0;
  #sincePingMs = 0;
  /** Whether a PING went out in doubt, and nothing has come since. */
  #hasAsked = false;

  constructor(options: LivenessOptions) {
    this.#options = options;
    this.#tickMs = Math.min(TICK_MS, (options.deadAfterMs ?? TICK_MS * 4) / 4);
    this.#tickedAtMs = options.clock.now();
  }

  capture(): LivenessCapture {
    return {
      tickedAgoMs: this.#options.clock.now() - this.#tickedAtMs,
      received: this.#received,
      sent: this.#sent,
      silentMs: this.#silentMs,
      quietMs: this.#quietMs,
      sincePingMs: this.#sincePingMs,
    };
  }

  /** Takes what another one has seen. Called before `start`. */
  restore(capture: LivenessCapture): void {
    this.#tickedAtMs = this.#options.clock.now() - capture.tickedAgoMs;
    this.#received = capture.received;
    this.#sent = capture.sent;
    this.#silentMs = capture.silentMs;
    this.#quietMs = capture.quietMs;
    this.#sincePingMs = capture.sincePingMs;
  }

  start(): void {
    const { clock } = this.#options;
    const leftMs = this.#tickMs - (clock.now() - this.#tickedAtMs);
    this.#cancel = clock.schedule(Math.max(0, leftMs), () => this.#tick());
  }

  stop(): void {
    this.#cancel?.();
  }

  #tick(): void {
    const { clock, deadAfterMs, receivedCount, sentCount, isInDoubt, onPingDue, onDoubt, onDead } = this.#options;
    const nowMs = clock.now();
    // A tick that comes much too late means that this process or its VM stood still: that time says nothing of the peer.
    const elapsedMs = Math.min(nowMs - this.#tickedAtMs, 2 * this.#tickMs);
    this.#tickedAtMs = nowMs;
    this.start();

    const received = receivedCount();
    const sent = sentCount();
    const hasReceived = received !== this.#received;
    this.#silentMs = hasReceived ? 0 : this.#silentMs + elapsedMs;
    this.#quietMs = sent === this.#sent ? this.#quietMs + elapsedMs : 0;
    this.#sincePingMs += elapsedMs;
    this.#received = received;
    this.#sent = sent;

    if (deadAfterMs !== null && this.#silentMs >= deadAfterMs) {
      onDead(this.#silentMs);
      return;
    }
    if (hasReceived) this.#hasAsked = false;
    if (!this.#hasAsked && isInDoubt() && onDoubt()) {
      this.#hasAsked = true;
      this.#sincePingMs = 0;
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

/** A {@link Leaving} as plain data. */
export interface LeavingCapture {
  readonly drainReason: Reason | null;
  readonly renewReason: Reason | null;
  /** The time that it has left, in milliseconds; null where it does not leave. */
  readonly leftMs: number | null;
}

/** Leaving a session in an orderly way: whether it drains, or has to be renewed, and the time that it has left (R-LIVE-3, R-STREAM-6). */
export class Leaving {
  readonly #clock: Clock;
  readonly #drainTimeoutMs: number;
  readonly #onTimeout: (reason: VproxyError) => void;
  #drainReason: VproxyError | null = null;
  #renewReason: VproxyError | null = null;
  #endsAtMs: number | null = null;
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

  capture(): LeavingCapture {
    return {
      drainReason: toReason(this.#drainReason),
      renewReason: toReason(this.#renewReason),
      leftMs: this.#endsAtMs === null ? null : this.#endsAtMs - this.#clock.now(),
    };
  }

  /** Takes what another one had. `goOn` is to follow. */
  restore({ drainReason, renewReason, leftMs }: LeavingCapture): void {
    this.#drainReason = fromReason(drainReason);
    this.#renewReason = fromReason(renewReason);
    this.#endsAtMs = leftMs === null ? null : this.#clock.now() + leftMs;
  }

  /** From now on its time runs, where it leaves. */
  goOn(): void {
    const reason = this.#drainReason ?? this.#renewReason;
    if (reason !== null && this.#endsAtMs !== null) this.#schedule(this.#endsAtMs - this.#clock.now(), reason);
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
    this.#endsAtMs = this.#clock.now() + delayMs;
    this.#schedule(delayMs, reason);
  }

  #schedule(delayMs: number, reason: VproxyError): void {
    this.#cancel = this.#clock.schedule(Math.max(0, delayMs), () => this.#onTimeout(reason));
  }
}

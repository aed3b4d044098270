/** Leaving a session in an orderly way: when it may still last, and for how long at most (R-LIVE-3, R-STREAM-6). */
import { VproxyError } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';

/** When the stream ids are used up, the session is renewed at the latest after this time. */
const RENEW_MS = 3_600_000;

/** Whether a session drains, or has to be renewed, and the time that it has left. */
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
    /** The time is up: whatever is open has to end. */
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

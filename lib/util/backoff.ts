/** Exponential back-off with jitter. */

/** How delays grow. */
export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  /** What a delay is multiplied with for the next one. Default 2. */
  readonly factor?: number;
  /** The share by which a delay may differ from its nominal value, either way. Default 0.25. */
  readonly jitter?: number;
  /** A number from 0 to 1. Default `Math.random`. */
  readonly random?: () => number;
}

/** The delays between attempts: each longer than the one before, until `reset`. */
export class Backoff {
  readonly #options: Required<BackoffOptions>;
  #nominalMs: number;

  constructor(options: BackoffOptions) {
    this.#options = { factor: 2, jitter: 0.25, random: Math.random, ...options };
    this.#nominalMs = options.firstMs;
  }

  /** The delay before the next attempt, in milliseconds. */
  next(maxMs: number = this.#options.maxMs): number {
    const { factor, jitter, random } = this.#options;
    const nominal = Math.min(this.#nominalMs, maxMs);
    this.#nominalMs = Math.min(this.#nominalMs * factor, maxMs);
    return nominal * (1 + jitter * (2 * random() - 1));
  }

  /** Begins again with the first delay. */
  reset(): void {
    this.#nominalMs = this.#options.firstMs;
  }
}

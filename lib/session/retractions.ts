/** The streams that this side opened and reset before an answer: so slowly that its peer finds no flood in them (R-FLOW-6). */
import type { CancelTimer, Clock } from '../util/clock.js';
import { TokenBucket } from './token-bucket.js';

/**
 * What the peer bears is 200 a second and 1,000 at once. When it stood still, it finds at once what was sent since: up
 * to a burst before, a burst when it is heard again, and what was unanswered meanwhile (256 where it says nothing else).
 */
const PER_SECOND = 150;
const BURST = 300;

/** While places are kept the peer is asked so often for a sign of life: there may be nothing else to hear from it. */
const ASK_MS = 100;

/** Counts them; what is too fast keeps its place among the unanswered streams, so that fewer are opened. */
export class Retractions {
  readonly #clock: Clock;
  readonly #ask: () => void;
  readonly #bucket: TokenBucket;
  #heardAtMs: number;
  #keptCount = 0;
  #cancelAsking: CancelTimer | null = null;

  /** `ask` makes the peer say something. */
  constructor(clock: Clock, ask: () => void) {
    this.#clock = clock;
    this.#ask = ask;
    this.#heardAtMs = clock.now();
    this.#bucket = new TokenBucket(PER_SECOND, BURST, this.#heardAtMs);
  }

  /** Whether places are kept, so that `handleReceived` has something to do. */
  get isWaiting(): boolean {
    return this.#keptCount > 0;
  }

  /** Counts one more. True when its place is free at once. */
  add(): boolean {
    if (this.#bucket.take(this.#heardAtMs)) return true;
    this.#keptCount += 1;
    if (this.#cancelAsking === null) this.#askLater();
    return false;
  }

  /** Something came from the peer, so it has gone on meanwhile. Gives the number of places that are free now. */
  handleReceived(): number {
    this.#heardAtMs = this.#clock.now();
    let freeCount = 0;
    while (freeCount < this.#keptCount && this.#bucket.take(this.#heardAtMs)) freeCount += 1;
    this.#keptCount -= freeCount;
    return freeCount;
  }

  stop(): void {
    this.#cancelAsking?.();
  }

  #askLater(): void {
    this.#cancelAsking = this.#clock.schedule(ASK_MS, () => {
      this.#cancelAsking = null;
      if (!this.isWaiting) return;
      this.#ask();
      this.#askLater();
    });
  }
}

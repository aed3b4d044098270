/** Warnings: the first are told, the others counted, since a peer may send them without end. */
import { type KeptCount, KeptLists, keptBytes } from './kept-list.js';
import type { Warn } from './walk.js';

/** So many are sent, and so many bytes of them, */
const SENT = { what: 'warnings', maxCount: 1000, maxBytes: 524_288 };

/** and one more is told of what comes: the last one that is sent may say how many there are beside those. */
const RECEIVED = { ...SENT, maxCount: SENT.maxCount + 1, maxBytes: SENT.maxBytes + 4096 };

export class Warnings {
  readonly #warn: Warn;
  readonly #told: KeptCount;
  #leftOutCount = 0;

  /** `warn` is given those that are told; `from` is the side that they are of. */
  constructor(warn: Warn, from: 'here' | 'peer') {
    this.#warn = warn;
    this.#told = new KeptLists().list(from === 'here' ? SENT : RECEIVED);
  }

  /** Tells of it, or counts it. */
  add(message: string): void {
    const bytes = keptBytes(message);
    // None is told behind one that is not: they would not be the first any more.
    if (this.#leftOutCount > 0 || !this.#told.hasRoom(bytes)) {
      this.#leftOutCount += 1;
      return;
    }
    this.#told.add(bytes);
    this.#warn(message);
  }

  /** No more come: says how many were left out. */
  end(): void {
    if (this.#leftOutCount === 0) return;
    this.#warn(`and ${this.#leftOutCount.toLocaleString('en-US')} more`);
    this.#leftOutCount = 0;
  }
}

/**
 * What a peer makes a copy keep: every list that grows with what it sends has a limit in number and in bytes; and its
 * warnings.
 */

import { VproxyError } from '../errors.js';
import { Budget } from '../util/bounds.js';

/** What all lists of all copies of a channel may hold together, in bytes. */
export const MAX_KEPT_BYTES = 100_663_296;

/** The memory of an item without its text, in bytes: an object, a string, and a place in an array or a map. */
const ITEM_BYTES = 192;

/** The counted size of an item with a text. A text that is not Latin-1 takes two bytes for each character. */
export const keptBytes = (text: string): number => ITEM_BYTES + 2 * text.length;

export interface KeptBounds {
  /** For messages: `staged files`. */
  readonly what: string;
  readonly maxCount: number;
  /** As {@link keptBytes} counts them. */
  readonly maxBytes: number;
}

/** How much the lists of one copy hold, as a part of the budget of all copies. */
export class KeptLists {
  readonly #budget: Budget;
  #isReleased = false;

  /** `all` is the budget that other copies share. Default: there are no others. */
  constructor(all: Budget | null = null) {
    this.#budget = new Budget(MAX_KEPT_BYTES, all);
  }

  /** The bytes in all lists of this copy, as {@link keptBytes} counts them. */
  get bytes(): number {
    return this.#budget.usedBytes;
  }

  list(bounds: KeptBounds): KeptCount {
    return new KeptCount(bounds, this);
  }

  /** Throws `too-many-streams` where the lists of all copies are full. */
  take(bytes: number): void {
    if (!this.#isReleased && !this.#budget.reserve(bytes)) {
      throw new VproxyError('too-many-streams', 'copy: the lists of all copies hold as much as is allowed');
    }
  }

  give(bytes: number): void {
    if (!this.#isReleased) this.#budget.release(bytes);
  }

  release(): void {
    this.give(this.bytes);
    this.#isReleased = true;
  }
}

/** How much is in a list, which may be an array, a map or a set. */
export class KeptCount {
  readonly #bounds: KeptBounds;
  readonly #lists: KeptLists;
  #count = 0;
  #bytes = 0;

  constructor(bounds: KeptBounds, lists: KeptLists) {
    this.#bounds = bounds;
    this.#lists = lists;
  }

  get count(): number {
    return this.#count;
  }

  hasRoom(bytes: number): boolean {
    const { maxCount, maxBytes } = this.#bounds;
    return this.#count < maxCount && this.#bytes + bytes <= maxBytes;
  }

  /** Counts an item. Throws `protocol-error` above the limits of this list, and `too-many-streams` above that of all copies. */
  add(bytes: number): void {
    if (!this.hasRoom(bytes)) {
      const { what, maxCount, maxBytes } = this.#bounds;
      const found = `${this.#count + 1} ${what} of ${this.#bytes + bytes} bytes`;
      throw new VproxyError('protocol-error', `copy: ${found}, expected at most ${maxCount} of ${maxBytes} bytes`);
    }
    this.#lists.take(bytes);
    this.#count += 1;
    this.#bytes += bytes;
  }

  remove(bytes: number): void {
    this.#lists.give(bytes);
    this.#count -= 1;
    this.#bytes -= bytes;
  }

  clear(): void {
    this.#lists.give(this.#bytes);
    this.#count = 0;
    this.#bytes = 0;
  }
}

/** The warnings that are sent; the others are counted, since there may be any number. */
const SENT = { what: 'warnings', maxCount: 1000, maxBytes: 524_288 };

/** One more is accepted from the peer: the last one that it sends may be the number of the others. */
const RECEIVED = { ...SENT, maxCount: SENT.maxCount + 1, maxBytes: SENT.maxBytes + 4096 };

export class Warnings {
  readonly #warn: Warn;
  readonly #told: KeptCount;
  #leftOutCount = 0;

  /** `warn` is called with those that are reported; `from` is the side that they come from. */
  constructor(warn: Warn, from: 'here' | 'peer') {
    this.#warn = warn;
    this.#told = new KeptLists().list(from === 'here' ? SENT : RECEIVED);
  }

  add(message: string): void {
    const bytes = keptBytes(message);
    // Once one was only counted, so are all that follow: the first ones are reported.
    if (this.#leftOutCount > 0 || !this.#told.hasRoom(bytes)) {
      this.#leftOutCount += 1;
      return;
    }
    this.#told.add(bytes);
    this.#warn(message);
  }

  /** No more come: reports how many were left out. */
  end(): void {
    if (this.#leftOutCount === 0) return;
    this.#warn(`and ${this.#leftOutCount.toLocaleString('en-US')} more`);
    this.#leftOutCount = 0;
  }
}

export type Warn = (message: string) => void;

/** Bounds, in number and in bytes, on every list of a copy that grows with the peer's input; and warnings. */

import { protocolError, VproxyError } from '../../errors.js';
import { Budget } from '../../util/bounds.js';

/** Bound on all lists of all copies of a channel, in bytes. */
export const MAX_KEPT_BYTES = 100_663_296;

/** The memory of an item without its text, in bytes: an object, a string, and a slot of an array or a map. */
const ITEM_BYTES = 192;

/** The size that an item with this text counts as. A character outside Latin-1 makes a text take two bytes each. */
export const keptBytes = (text: string): number => ITEM_BYTES + 2 * text.length;

export interface KeptBounds {
  /** For messages: `staged files`. */
  readonly what: string;
  readonly maxCount: number;
  /** As counted by {@link keptBytes}. */
  readonly maxBytes: number;
}

/** How much the lists of one copy hold, charged to the budget of all copies. */
export class KeptLists {
  readonly #budget: Budget;
  #isReleased = false;

  /** `all` is the budget shared with other copies. Default: not shared. */
  constructor(all: Budget | null = null) {
    this.#budget = new Budget(MAX_KEPT_BYTES, all);
  }

  /** The bytes in all lists of this copy, as counted by {@link keptBytes}. */
  get bytes(): number {
    return this.#budget.usedBytes;
  }

  list(bounds: KeptBounds): KeptCount {
    return new KeptCount(bounds, this);
  }

  /** Throws `too-many-streams` when the budget of all copies is used up. */
  reserve(bytes: number): void {
    if (!this.#isReleased && !this.#budget.reserve(bytes)) {
      throw new VproxyError('too-many-streams', `copy: out of memory for all copies (max ${MAX_KEPT_BYTES} bytes)`);
    }
  }

  free(bytes: number): void {
    if (!this.#isReleased) this.#budget.release(bytes);
  }

  release(): void {
    this.free(this.bytes);
    this.#isReleased = true;
  }
}

/** The number and size of the items in one list: an array, a map or a set. */
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

  /** Counts an item. Throws `protocol-error` above the limits of this list, `too-many-streams` above that of all copies. */
  add(bytes: number): void {
    if (!this.hasRoom(bytes)) {
      const { what, maxCount, maxBytes } = this.#bounds;
      const found = `too many ${what}: ${this.#count + 1}, ${this.#bytes + bytes} bytes`;
      throw protocolError(`copy: ${found} (max ${maxCount}, ${maxBytes} bytes)`);
    }
    this.#lists.reserve(bytes);
    this.#count += 1;
    this.#bytes += bytes;
  }

  remove(bytes: number): void {
    this.#lists.free(bytes);
    this.#count -= 1;
    this.#bytes -= bytes;
  }

  clear(): void {
    this.#lists.free(this.#bytes);
    this.#count = 0;
    this.#bytes = 0;
  }
}

/** Limits on the warnings sent; the others, of which there may be any number, are only counted. */
const SENT = { what: 'warnings', maxCount: 1000, maxBytes: 524_288 };

/** The peer may send one more: its last warning may be the number of the others. */
const RECEIVED = { ...SENT, maxCount: SENT.maxCount + 1, maxBytes: SENT.maxBytes + 4096 };

export class Warnings {
  readonly #warn: Warn;
  readonly #reported: KeptCount;
  #leftOutCount = 0;

  /** `warn` receives those within the limits; `from` is the side that they come from. */
  constructor(warn: Warn, from: 'here' | 'peer') {
    this.#warn = warn;
    this.#reported = new KeptLists().list(from === 'here' ? SENT : RECEIVED);
  }

  add(message: string): void {
    const bytes = keptBytes(message);
    // Once a warning was only counted, so are all later ones: the first ones are reported.
    if (this.#leftOutCount > 0 || !this.#reported.hasRoom(bytes)) {
      this.#leftOutCount += 1;
      return;
    }
    this.#reported.add(bytes);
    this.#warn(message);
  }

  /** After the last warning: reports how many were left out. */
  end(): void {
    if (this.#leftOutCount === 0) return;
    this.#warn(`and ${this.#leftOutCount.toLocaleString('en-US')} more`);
    this.#leftOutCount = 0;
  }
}

export type Warn = (message: string) => void;

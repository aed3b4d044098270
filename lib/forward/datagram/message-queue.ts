/** What waits of a flow of datagrams: the newest messages, within bounds. */
import type { Budget } from '../../util/bounds.js';

/** What the queue of a flow holds at most, in one direction. */
export const QUEUE_MESSAGES = 64;
export const QUEUE_BYTES = 262_144;

/** Messages in their order. Where there is no room for another one, the oldest go. */
export class MessageQueue {
  readonly #budget: Budget;
  readonly #messages: Buffer[] = [];
  #byteCount = 0;

  /** `budget` is what this queue and others may take together. */
  constructor(budget: Budget) {
    this.#budget = budget;
  }

  get size(): number {
    return this.#messages.length;
  }

  /** Adds a message, which is the queue's then. Gives how many were dropped for it: the oldest, or, with none left, itself. */
  push(message: Buffer): number {
    let dropped = 0;
    while (this.size >= QUEUE_MESSAGES || (this.size > 0 && this.#byteCount + message.length > QUEUE_BYTES)) {
      this.shift();
      dropped += 1;
    }
    while (!this.#budget.reserve(message.length)) {
      dropped += 1;
      if (this.shift() === null) return dropped;
    }
    this.#messages.push(message);
    this.#byteCount += message.length;
    return dropped;
  }

  /** Takes the oldest message out. */
  shift(): Buffer | null {
    const message = this.#messages.shift() ?? null;
    if (message !== null) {
      this.#byteCount -= message.length;
      this.#budget.release(message.length);
    }
    return message;
  }

  /** Drops all; gives how many. */
  clear(): number {
    const dropped = this.size;
    this.#budget.release(this.#byteCount);
    this.#messages.length = 0;
    this.#byteCount = 0;
    return dropped;
  }
}

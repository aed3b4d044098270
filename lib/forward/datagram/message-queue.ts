/** The waiting messages of a datagram flow: the newest ones, within a limit. */
import { costOf, WAITING_BYTES } from '../../codec/datagram-messages.js';
import { Budget } from '../../util/bounds.js';

/** A FIFO of messages; drops the oldest ones to make room. */
export class MessageQueue {
  readonly #budget: Budget;
  readonly #messages: Buffer[] = [];

  /** `budget` is shared with other queues. */
  constructor(budget: Budget) {
    this.#budget = new Budget(WAITING_BYTES, budget);
  }

  get size(): number {
    return this.#messages.length;
  }

  /** Adds a message and takes ownership. Returns how many were dropped: the oldest, or, with none left, the message itself. */
  push(message: Buffer): number {
    let dropped = 0;
    while (!this.#budget.reserve(costOf(message))) {
      dropped += 1;
      if (this.shift() === null) return dropped;
    }
    this.#messages.push(message);
    return dropped;
  }

  /** Removes and returns the oldest message. */
  shift(): Buffer | null {
    const message = this.#messages.shift() ?? null;
    if (message !== null) this.#budget.release(costOf(message));
    return message;
  }

  /** Drops all messages; returns how many. */
  clear(): number {
    const dropped = this.size;
    this.#budget.release(this.#budget.usedBytes);
    this.#messages.length = 0;
    return dropped;
  }
}

/** The waiting messages of a datagram flow: the newest ones, within limits. */
import type { Budget } from '../../util/bounds.js';

/** Limits of a flow's queue in one direction. */
export const QUEUE_MESSAGES = 64;
export const QUEUE_BYTES = 262_144;

/** A FIFO of messages; drops the oldest ones to make room. */
export class MessageQueue {
  readonly #budget: Budget;
  readonly #messages: Buffer[] = [];
  #byteCount = 0;

  /** `budget` is shared with other queues. */
  constructor(budget: Budget) {
    this.#budget = budget;
  }

  get size(): number {
    return this.#messages.length;
  }

  /** Adds a message and takes ownership. Returns how many were dropped: the oldest, or, with none left, the message itself. */
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

  /** Removes and returns the oldest message. */
  shift(): Buffer | null {
    const message = this.#messages.shift() ?? null;
    if (message !== null) {
      this.#byteCount -= message.length;
      this.#budget.release(message.length);
    }
    return message;
  }

  /** Drops all messages; returns how many. */
  clear(): number {
    const dropped = this.size;
    this.#budget.release(this.#byteCount);
    this.#messages.length = 0;
    this.#byteCount = 0;
    return dropped;
  }
}

/** How long a channel is worked on before the other sockets of the process have their turn of the event loop. */
import type { Clock } from '../util/clock.js';

/**
 * What a chunk of tiny frames costs is decided by the peer: 128 KiB of them are up to a hundred milliseconds. Frames with
 * much in them never come near this.
 */
const TURN_MS = 0.1;

/** The clock is looked at once in so many headers and payloads: that is four frames. */
const PARTS_PER_LOOK = 8;

/** One channel's turn. A clock that stands still, as a test's may, never ends one. */
export class Turn {
  readonly #clock: Clock;
  #endsAtMs = 0;
  #parts = 0;
  #isOver = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether the time is used up. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Begins anew. */
  begin(): void {
    this.#endsAtMs = this.#clock.now() + TURN_MS;
    this.#parts = 0;
    this.#isOver = false;
  }

  /** Looks at the clock: whether the time is used up. */
  look(): boolean {
    this.#isOver = this.#clock.now() >= this.#endsAtMs;
    return this.#isOver;
  }

  /** Counts a part of a frame that was read, and looks at the clock now and then: whether the time is used up. */
  readonly countPart = (): boolean => {
    this.#parts += 1;
    return this.#parts % PARTS_PER_LOOK === 0 ? this.look() : this.#isOver;
  };
}

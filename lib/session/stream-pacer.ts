/** One stream under limits of bytes a second: what it may send now, and when its reader's credit goes back. */
import type { RateLimit } from './rate-limit.js';

/** How fast bytes may go and come; streams share limits. */
export interface StreamPace {
  readonly send: RateLimit;
  readonly receive: RateLimit;
}

export interface StreamPacerHooks {
  /** Bytes that wait may be sent again. */
  readonly offer: () => void;
  /** So many bytes count as having left this side. */
  readonly release: (bytes: number) => void;
}

export class StreamPacer {
  readonly #pace: StreamPace;
  readonly #hooks: StreamPacerHooks;
  /** Bytes that left this side and for which no credit is given yet. */
  #unreleasedBytes = 0;
  #isOver = false;

  constructor(pace: StreamPace, hooks: StreamPacerHooks) {
    this.#pace = pace;
    this.#hooks = hooks;
  }

  /** How many bytes may be sent now. */
  get sendableBytes(): number {
    return this.#pace.send.availableBytes;
  }

  countSent(bytes: number): void {
    this.#pace.send.take(bytes);
  }

  /** Something waits that only the limit may hold back: it is offered again by itself. */
  awaitSend(): void {
    this.#pace.send.whenAvailable(this.#hooks.offer);
  }

  /** Bytes left this side: credit goes back for them no faster than bytes may come. */
  release(bytes: number): void {
    this.#unreleasedBytes += bytes;
    this.#releaseDue();
  }

  /** The stream is over: nothing is held back any more. */
  end(): void {
    this.#isOver = true;
    this.#pace.send.forget(this.#hooks.offer);
    this.#pace.receive.forget(this.#releaseDue);
    this.#releaseDue();
  }

  readonly #releaseDue = (): void => {
    const { receive } = this.#pace;
    const bytes = this.#isOver ? this.#unreleasedBytes : Math.min(this.#unreleasedBytes, receive.availableBytes);
    if (bytes > 0) {
      receive.take(bytes);
      this.#unreleasedBytes -= bytes;
      this.#hooks.release(bytes);
    }
    if (this.#unreleasedBytes > 0) receive.whenAvailable(this.#releaseDue);
  };
}

/** What one stream receives: its window, and whether more is to come or wanted (R-STREAM-7, R-STREAM-9, R-FLOW-3). */
import type { Pace, ReceiveWindow } from './receive-window.js';

/** The receiving direction of a stream. */
export class ReceivingHalf {
  readonly #window: ReceiveWindow;
  #hasEnded = false;
  #isStopped = false;
  #isDraining = false;

  constructor(window: ReceiveWindow) {
    this.#window = window;
  }

  /** DATA received so far, in bytes. */
  get receivedBytes(): number {
    return this.#window.receivedBytes;
  }

  /** How much the peer may have sent in total, in bytes. */
  get grantedBytes(): number {
    return this.#window.grantedBytes;
  }

  /** What came and has not left this side, in bytes. */
  get heldBytes(): number {
    return this.#window.heldBytes;
  }

  /** Whether the peer's FIN has come. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Whether this side reads no more, and drops what still arrives. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** Whether bytes that arrived still lie on this side although the stream is over. */
  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Counts DATA that came. Throws `flow-control` beyond the credit. */
  receive(bytes: number, streamId: number): void {
    this.#window.receive(bytes, streamId);
  }

  end(): void {
    this.#hasEnded = true;
  }

  stop(): void {
    this.#isStopped = true;
  }

  /** Counts what left this side; `mayGrow`: the window. True when the peer should hear of more credit. */
  release(bytes: number, pace: Pace, mayGrow: boolean): boolean {
    return this.#window.release(bytes, pace, mayGrow) && !this.#hasEnded && !this.#isStopped;
  }

  /** Whether all that came has left this side. */
  get isDrained(): boolean {
    return this.#window.heldBytes === 0;
  }

  /** The stream is over: drains what lies here where it ended in order, else gives the window back. */
  close(isInOrder: boolean): void {
    this.#isDraining = isInOrder && !this.#isStopped && !this.isDrained;
    if (!this.#isDraining) this.#window.close();
  }

  /** Gives the window back, drained or not. False where it did not drain. */
  stopDraining(): boolean {
    if (!this.#isDraining) return false;
    this.#isDraining = false;
    this.#window.close();
    return true;
  }
}

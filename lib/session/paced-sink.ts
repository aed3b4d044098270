/** Between a stream and its local end: what comes faster than a limit lets pass waits here, in order, and then goes on. */
import type { VproxyError } from '../errors.js';
import { ByteQueue, dropView } from '../util/byte-queue.js';
import type { RateLimit } from './rate-limit.js';
import type { StreamSink } from './stream-sink.js';

/**
 * Hands bytes to a sink no faster than the limit allows, and what ends them behind the last one: FIN, and the end of a
 * stream that ended in order. What tears a stream down drops them. Credit of the stream bounds what waits: none goes back
 * for bytes that the sink has not been given.
 */
export class PacedSink implements StreamSink {
  readonly #sink: StreamSink;
  readonly #limit: RateLimit;
  readonly #queue = new ByteQueue();
  #hasFin = false;
  #hasEnd = false;

  constructor(sink: StreamSink, limit: RateLimit) {
    this.#sink = sink;
    this.#limit = limit;
  }

  /** The number of bytes that wait. */
  get waitingBytes(): number {
    return this.#queue.byteCount;
  }

  handleData(bytes: Buffer): boolean {
    const passing = this.waitingBytes > 0 ? 0 : Math.min(bytes.length, this.#limit.availableBytes);
    let isKept = false;
    // What waits first: the sink may tear the stream down in the call.
    if (passing < bytes.length) {
      isKept = this.#queue.push(bytes.subarray(passing));
      this.#limit.whenAvailable(this.#takeTurn);
    }
    if (passing === 0) return isKept;
    this.#limit.take(passing);
    return this.#sink.handleData(bytes.subarray(0, passing)) || isKept;
  }

  handleFin(): void {
    if (this.waitingBytes > 0) this.#hasFin = true;
    else this.#sink.handleFin();
  }

  handleEnd(reason: VproxyError | null): void {
    if (reason === null && this.waitingBytes > 0) {
      this.#hasEnd = true;
      return;
    }
    this.#clear();
    this.#sink.handleEnd(reason);
  }

  handleAccept(): void {
    this.#sink.handleAccept();
  }

  handleStop(reason: VproxyError): void {
    this.#sink.handleStop(reason);
  }

  handleSent(isFree: boolean): void {
    this.#sink.handleSent(isFree);
  }

  /** The sink wants no more of it: drops what waits, which is how many bytes. An end that waited comes at once. */
  drop(reason: VproxyError | null): number {
    const { waitingBytes } = this;
    const hasEnd = this.#hasEnd;
    this.#clear();
    if (hasEnd) this.#sink.handleEnd(reason);
    return waitingBytes;
  }

  #clear(): void {
    this.#queue.clear();
    this.#limit.forget(this.#takeTurn);
    this.#hasFin = false;
    this.#hasEnd = false;
  }

  readonly #takeTurn = (): void => {
    for (let turnBytes = this.#limit.turnBytes; turnBytes > 0; ) {
      const block = this.#queue.shift(turnBytes);
      if (block === null) break;
      const { bytes, isView } = block;
      turnBytes -= bytes.length;
      this.#limit.take(bytes.length);
      this.#sink.handleData(bytes);
      if (isView) dropView();
    }
    if (this.waitingBytes > 0) this.#limit.whenAvailable(this.#takeTurn);
    else this.#finish();
  };

  /** The last byte has passed. */
  #finish(): void {
    if (this.#hasFin) {
      this.#hasFin = false;
      this.#sink.handleFin();
    }
    if (!this.#hasEnd) return;
    this.#hasEnd = false;
    this.#sink.handleEnd(null);
  }
}

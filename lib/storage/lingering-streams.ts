/** Streams whose business is done and whose other end has yet to close: given a while, then reset. */
import type { Duplex } from 'node:stream';
import type { Clock } from '../util/clock.js';

const LINGER_MS = 5000;
const MAX_STREAMS = 16;

/** Holds the streams; no more than a few, each no longer than a few seconds. */
export class LingeringStreams {
  readonly #clock: Clock;
  readonly #streams = new Set<Duplex>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends a stream, whose events are handled already, and resets it when its other end does not end it too. */
  add(stream: Duplex): void {
    if (stream.destroyed) return;
    if (this.#streams.size >= MAX_STREAMS) [...this.#streams].at(0)?.destroy();
    const cancel = this.#clock.schedule(LINGER_MS, () => stream.destroy());
    this.#streams.add(stream);
    stream.once('close', () => {
      cancel();
      this.#streams.delete(stream);
    });
    stream.end();
  }

  /** Resets them all. */
  destroy(): void {
    for (const stream of this.#streams) stream.destroy();
  }
}

/** What the forwards of one service have carried, in one direction, for the metrics. */
import { countedCode } from '../errors.js';
import { CallTally, Histogram, LATENCY_SECONDS, Tally } from '../util/tally.js';
import type { KnownStream } from './connection.js';

/** The counters of one service in one direction. */
export class StreamTally {
  readonly refusals = new Tally();
  readonly resets = new Tally();
  /** From the request for a stream to the answer of its target. */
  readonly connecting = new Histogram(LATENCY_SECONDS);
  readonly questions = new CallTally();
  opened = 0;
  readonly #closed = { sentBytes: 0, receivedBytes: 0 };
  readonly #open = new Set<KnownStream>();

  countOpened(stream: KnownStream, nowMs: number): void {
    this.opened += 1;
    this.#open.add(stream);
    this.connecting.add(nowMs - stream.openedAtMs);
  }

  /** Follows a stream that was opened in the previous process. */
  follow(stream: KnownStream): void {
    this.#open.add(stream);
  }

  /** A stream has closed, with the code of the reason, or null in order. */
  countClosed(stream: KnownStream, code: string | null): void {
    const wasOpen = this.#open.delete(stream);
    this.#closed.sentBytes += stream.sentBytes;
    this.#closed.receivedBytes += stream.receivedBytes;
    if (code === null) return;
    if (wasOpen) this.resets.add({ code: countedCode(code) });
    else this.countRefused(code);
  }

  countRefused(code: string): void {
    this.refusals.add({ code: countedCode(code) });
  }

  get openCount(): number {
    return this.#open.size;
  }

  /** The bytes of all streams, including open ones. */
  get sentBytes(): number {
    return this.#sum('sentBytes');
  }

  get receivedBytes(): number {
    return this.#sum('receivedBytes');
  }

  #sum(key: 'sentBytes' | 'receivedBytes'): number {
    let sum = this.#closed[key];
    for (const stream of this.#open) sum += stream[key];
    return sum;
  }
}

/** The traffic and the round trips of a channel over the last hour. */
import type { ChannelStatus } from '../../lib/status/types.js';
import { type HistoryPart, STEP_MS } from '../views.js';

/** An hour. */
const KEPT = 3_600_000 / STEP_MS;

/** What is shown in a row of the table: five minutes. */
const RECENT = 300_000 / STEP_MS;

/** For each step what was sent and received each second, and the round trip; NaN where it was not known. */
const VALUES = 3;

interface Sample {
  readonly atMs: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

const NONE: Sample = { atMs: Number.NaN, sentBytes: 0, receivedBytes: 0 };

export class History {
  /** A ring of `KEPT` steps; it grows as it is filled. */
  #values = new Float32Array(VALUES * 64);
  /** The number of steps so far. */
  #next = 0;
  #last = NONE;
  /** At the begin of the current step. */
  #stepBegan = NONE;
  /** Bytes per second since the last sample. */
  sendRate = 0;
  receiveRate = 0;

  /** Adds what a status says. Totals that went back are those of another process. */
  add({ session, totals: { sentBytes, receivedBytes } }: ChannelStatus, atMs: number): void {
    const sample = { atMs, sentBytes, receivedBytes };
    [this.sendRate, this.receiveRate] = ratesOf(this.#last, sample);
    this.#last = sample;
    const isFirst = Number.isNaN(this.#stepBegan.atMs);
    // A request that is answered early must not move the steps.
    const elapsedMs = atMs - this.#stepBegan.atMs;
    if (!isFirst && elapsedMs < STEP_MS - STEP_MS / 10) return;
    const [sendRate, receiveRate] = ratesOf(this.#stepBegan, sample);
    this.#stepBegan = sample;
    if (isFirst) return;
    const values = [sendRate, receiveRate, session?.roundTripMs ?? Number.NaN];
    // After a pause, such as that of a process that was gone, one for each step of it: the time of a value is told by its place.
    for (let left = Math.min(KEPT, Math.round(elapsedMs / STEP_MS)); left > 0; left--) this.#push(values);
  }

  #push(values: readonly number[]): void {
    if (this.#next * VALUES === this.#values.length && this.#next < KEPT) {
      const grown = new Float32Array(Math.min(this.#values.length * 2, KEPT * VALUES));
      grown.set(this.#values);
      this.#values = grown;
    }
    this.#values.set(values, (this.#next % KEPT) * VALUES);
    this.#next += 1;
  }

  /** Both directions together, the newest last. */
  get recent(): number[] {
    const { sendRates, receiveRates } = this.since(this.#next - RECENT);
    return sendRates.map((rate, index) => rate + (receiveRates[index] ?? 0));
  }

  /** The steps from number `from` on, as far as they are kept; all if it is of another history, with more steps. */
  since(from: number): HistoryPart {
    const first = Math.max(0, this.#next - KEPT, from > this.#next ? 0 : from);
    const numbers = Array.from({ length: this.#next - first }, (_, index) => ((first + index) % KEPT) * VALUES);
    const pick = (offset: number): number[] => numbers.map((at) => Math.round(this.#values[at + offset] ?? 0));
    const roundTrips = numbers.map((at) => {
      const value = this.#values[at + 2] ?? Number.NaN;
      return Number.isNaN(value) ? null : Math.round(value * 100) / 100;
    });
    return { first, next: this.#next, sendRates: pick(0), receiveRates: pick(1), roundTrips };
  }
}

function ratesOf(before: Sample, now: Sample): [send: number, receive: number] {
  const seconds = (now.atMs - before.atMs) / 1000;
  if (!(seconds > 0)) return [0, 0];
  const rate = (from: number, to: number): number => Math.max(0, to - from) / seconds;
  return [rate(before.sentBytes, now.sentBytes), rate(before.receivedBytes, now.receivedBytes)];
}

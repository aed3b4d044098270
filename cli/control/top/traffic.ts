/** How much goes over all channels together, from one look at their totals to the next. */
import type { ControlStatus } from '../../../lib/control/routes/status.js';

/** What went between two looks, in bytes a second. */
export interface TrafficSample {
  readonly sendRate: number;
  readonly receiveRate: number;
  /** The same for each channel, by its label. */
  readonly channels: ReadonlyMap<string, { readonly sendRate: number; readonly receiveRate: number }>;
}

/** The totals of a channel at the last look. */
interface Totals {
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

/** So many samples are kept: no terminal is wider. */
const MAX_SAMPLES = 512;

/** Keeps the samples. */
export class TrafficHistory {
  #samples: readonly TrafficSample[] = [];
  #totals: ReadonlyMap<string, Totals> | null = null;
  #atMs = 0;

  /** The samples so far, the newest last. */
  get samples(): readonly TrafficSample[] {
    return this.#samples;
  }

  /** Takes a look, at a time of any clock; the first one makes no sample, as there is nothing to compare it with. */
  add({ channels }: ControlStatus, atMs: number): void {
    const before = this.#totals;
    const seconds = Math.max(1, atMs - this.#atMs) / 1000;
    this.#totals = new Map(channels.map(({ label, totals }) => [label, totals]));
    this.#atMs = atMs;
    if (before === null) return;
    const rates = channels.map(({ label, totals }) => {
      // A channel that is new, or was replaced by one of its label, begins at zero.
      const old = before.get(label);
      const base = old !== undefined && isLater(totals, old) ? old : { sentBytes: 0, receivedBytes: 0 };
      const sendRate = (totals.sentBytes - base.sentBytes) / seconds;
      const receiveRate = (totals.receivedBytes - base.receivedBytes) / seconds;
      return [label, { sendRate, receiveRate }] as const;
    });
    const sample = {
      sendRate: rates.reduce((sum, [, { sendRate }]) => sum + sendRate, 0),
      receiveRate: rates.reduce((sum, [, { receiveRate }]) => sum + receiveRate, 0),
      channels: new Map(rates),
    };
    this.#samples = [...this.#samples, sample].slice(-MAX_SAMPLES);
  }
}

const isLater = (totals: Totals, before: Totals): boolean =>
  totals.sentBytes >= before.sentBytes && totals.receivedBytes >= before.receivedBytes;

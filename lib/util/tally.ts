/** Counters for the metrics: durations by size, and events by label. */

/** Upper bounds of round trips and of the time to connect, in seconds. */
export const LATENCY_SECONDS = [0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 5] as const;

/** Upper bounds of the duration of calls, commands, copies and connections, in seconds. */
export const DURATION_SECONDS = [0.05, 0.25, 1, 5, 30, 300, 3600] as const;

/** Counts durations by size. */
export class Histogram {
  /** Upper bounds in seconds, ascending; each includes its bound. */
  readonly bounds: readonly number[];
  /** For each bound, the number of durations up to it and above the previous one; then those above all bounds. */
  readonly counts: number[];
  count = 0;
  sumMs = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  add(milliseconds: number): void {
    const seconds = milliseconds / 1000;
    const found = this.bounds.findIndex((bound) => seconds <= bound);
    const index = found === -1 ? this.bounds.length : found;
    this.counts[index] = (this.counts[index] ?? 0) + 1;
    this.count += 1;
    this.sumMs += milliseconds;
  }
}

/** Labels of a series, without quotes or line breaks in their values. */
export type Labels = Readonly<Record<string, string>>;

/** Counts by labels. The caller keeps the number of different labels small. */
export class Tally {
  readonly #counts = new Map<string, { readonly labels: Labels; count: number }>();

  add(labels: Labels): void {
    const key = Object.values(labels).join('\n');
    const known = this.#counts.get(key);
    if (known === undefined) this.#counts.set(key, { labels, count: 1 });
    else known.count += 1;
  }

  list(): Iterable<{ readonly labels: Labels; readonly count: number }> {
    return this.#counts.values();
  }
}

/** Counts calls by result, and by duration. */
export class CallTally {
  readonly results = new Tally();
  readonly durations = new Histogram(DURATION_SECONDS);

  /** `durationMs`: null for a call that was refused. */
  add(labels: Labels, durationMs: number | null): void {
    this.results.add(labels);
    if (durationMs !== null) this.durations.add(durationMs);
  }
}

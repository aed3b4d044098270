/** The rate of a transfer, and when it reached a rate, from samples of its count of bytes. */

/** The number of bytes received at a moment. */
export interface Sample {
  readonly atMs: number;
  readonly bytes: number;
}

/** A rate counts as reached when it holds for this long. */
const HOLDS_MS = 500;

/** The rate of the last `forMs`, limited to the second half, when every window has grown; in MB/s. */
export function rateAtEnd(samples: readonly Sample[], forMs: number): number {
  const last = samples.at(-1);
  const half = Math.floor(samples.length / 2);
  const fromMs = Math.max((last?.atMs ?? 0) - forMs, samples[half]?.atMs ?? 0);
  return rateBetween(
    samples.find(({ atMs }) => atMs >= fromMs),
    last,
  );
}

/** The number of seconds until the half second in which `rate` MB/s was first reached; undefined when it never was. */
export function secondsToReach(samples: readonly Sample[], rate: number): number | undefined {
  for (const [index, from] of samples.entries()) {
    const to = samples.slice(index).find(({ atMs }) => atMs - from.atMs >= HOLDS_MS);
    if (to !== undefined && rateBetween(from, to) >= rate) return from.atMs / 1000;
  }
  return undefined;
}

function rateBetween(from: Sample | undefined, to: Sample | undefined): number {
  if (from === undefined || to === undefined || to.atMs <= from.atMs) return 0;
  return (to.bytes - from.bytes) / (to.atMs - from.atMs) / 1000;
}

/** Scales of a chart's axes: from values to places between 0 and 1, and the round values to write beside them. */

/**
 * The kind of scale. A logarithmic one has no place for values of 0 and below; `log-and-zero` has one for 0, as far before the
 * first power of ten as that is before the second.
 */
export type ScaleKind = 'linear' | 'log' | 'log-and-zero';

/** One axis, laid out for a range of values. */
export interface Scale {
  /** The place of a value: 0 at the start of the axis, 1 at its end. NaN if it has no place. */
  readonly place: (value: number) => number;
  /** Round values in rising order, the first and the last at the ends of the axis or beyond the data. */
  readonly ticks: readonly number[];
}

/** The approximate number of ticks on a linear axis. */
const TICKS = 6;

/**
 * Makes a scale for these values. Ignores values that are not finite, and on a log axis those that have no place.
 */
export function scaleFor(kind: ScaleKind, values: readonly number[]): Scale {
  const usable = values.filter((value) => Number.isFinite(value) && (kind === 'linear' || value > 0));
  let least = kind === 'linear' ? 0 : Number.POSITIVE_INFINITY;
  let most = Number.NEGATIVE_INFINITY;
  for (const value of usable) {
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  if (most === Number.NEGATIVE_INFINITY) [least, most] = kind === 'linear' ? [0, 1] : [1, 10];
  if (kind === 'linear') return linearScale(least, most);
  return kind === 'log' ? logScale(least, most) : withZero(logScale(least, most));
}

function linearScale(least: number, most: number): Scale {
  const step = roundStep((most - least || Math.abs(most) || 1) / TICKS);
  const first = Math.floor(least / step);
  const last = Math.max(Math.ceil(most / step), first + 1);
  const ticks = Array.from({ length: last - first + 1 }, (_, index) => withoutNoise((first + index) * step));
  return { ticks, place: (value) => (value / step - first) / (last - first) };
}

function logScale(least: number, most: number): Scale {
  const first = Math.floor(Math.log10(least));
  const last = Math.max(Math.ceil(Math.log10(most)), first + 1);
  const ticks = Array.from({ length: last - first + 1 }, (_, index) => withoutNoise(10 ** (first + index)));
  return {
    ticks,
    place: (value) => (value > 0 ? (Math.log10(value) - first) / (last - first) : Number.NaN),
  };
}

function withZero({ ticks, place }: Scale): Scale {
  return {
    ticks: [0, ...ticks],
    place: (value) => (value === 0 ? 0 : (place(value) * (ticks.length - 1) + 1) / ticks.length),
  };
}

/** The next of 1, 2, 5, 10, 20, 50, … */
function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  const factor = [1, 2, 5].find((candidate) => candidate * power >= least) ?? 10;
  return factor * power;
}

/** Rounds: sums of tenths give 0.30000000000000004 instead of 0.3. */
function withoutNoise(value: number): number {
  return Number(value.toPrecision(12));
}

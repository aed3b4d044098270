/** Numbers with units: times and sizes as users write them, `90s`, `1h30m`, `64MiB`, and counts of things. */

/** Units, the largest first; the last applies to a number without a unit. */
export type Units = readonly (readonly [name: string, factor: number])[];

export const SIZES: Units = [
  ['GiB', 2 ** 30],
  ['MiB', 2 ** 20],
  ['KiB', 2 ** 10],
  ['', 1],
];

/** Parses a text like `64MiB` into the smallest of `units`; null if it is not valid. */
export function parseUnits(text: string, units: Units): number | null {
  const [, digits, name] = /^(\d{1,12})([A-Za-z]*)$/.exec(text) ?? [];
  if (digits === undefined) return null;
  if (name === '') return Number(digits);
  const unit = units.find(([each]) => each === name);
  return unit === undefined ? null : Number(digits) * unit[1];
}

/** The shortest such text for a whole number; `parseUnits` reads it back. */
export function formatUnits(value: number, units: Units): string {
  const [name, factor] = units.find(([, each]) => value > 0 && value % each === 0) ?? ['', 1];
  return `${value / factor}${name}`;
}

// Times. Wherever a time is expected, a number without a unit is in seconds.

/** Milliseconds per unit, in the order in which a text has them. */
const TIMES: Units = [
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
];

/** Such as `1h30m`, `90s`, `500ms`: each unit at most once, in this order. */
export const DURATION = /^(?:(\d{1,12})h)?(?:(\d{1,12})m)?(?:(\d{1,12})s)?(?:(\d{1,12})ms)?$/;

/** The accepted forms besides a number, human-readable. */
export const DURATION_FORM = 'a time such as 500ms, 90s, 5m or 1h30m';

/** Parses a text with units, such as `1h30m`, into milliseconds; null for anything else, including a plain number. */
export function parseDuration(text: string): number | null {
  const found = text === '' ? null : DURATION.exec(text);
  if (found === null) return null;
  return TIMES.reduce((sum, [, factor], index) => sum + Number(found[index + 1] ?? 0) * factor, 0);
}

/** The shortest such text with one unit, `90s`, for whole milliseconds; `0` for zero. `parseDuration` reads it back. */
export const formatDuration = (ms: number): string => formatUnits(ms, [...TIMES, ['', 1]]);

/** `61.2 s`, `80 ms`: a measured time, for the log. */
export const formatElapsed = (ms: number): string =>
  ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;

// Counts.

/** `1 stream`, `2 streams`. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

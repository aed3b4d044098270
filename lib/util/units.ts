/** Times and sizes with a unit behind the number, as people write them: `90s`, `1h30m`, `64MiB`. */

/** Units by their names, the largest first; the last is the one of a number without a unit. */
export type Units = readonly (readonly [name: string, factor: number])[];

/** Of a size in bytes. */
export const SIZES: Units = [
  ['GiB', 2 ** 30],
  ['MiB', 2 ** 20],
  ['KiB', 2 ** 10],
  ['', 1],
];

/** The number that a text like `64MiB` says, in the smallest of `units`; null where it says none. */
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

// Times. A number without a unit is one of seconds, wherever a time is expected.

/** Milliseconds, the largest first, in the order in which a text has them. */
const TIMES: Units = [
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
];

/** Such as `1h30m`, `90s`, `500ms`: each unit once at most, in this order. */
const DURATION = /^(?:(\d{1,12})h)?(?:(\d{1,12})m)?(?:(\d{1,12})s)?(?:(\d{1,12})ms)?$/;

/** What a text may be besides a number, for people. */
export const DURATION_FORM = 'a time such as 500ms, 90s, 5m or 1h30m';

/** The milliseconds of a text with units, such as `1h30m`; null for any other, a plain number among them. */
export function parseDuration(text: string): number | null {
  const found = text === '' ? null : DURATION.exec(text);
  if (found === null) return null;
  return TIMES.reduce((sum, [, factor], index) => sum + Number(found[index + 1] ?? 0) * factor, 0);
}

/** The shortest such text with one unit, `90s`, for whole milliseconds; `0` for none. `parseDuration` reads it back. */
export const formatDuration = (ms: number): string => formatUnits(ms, [...TIMES, ['', 1]]);

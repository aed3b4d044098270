/** Times and sizes with a unit behind the number, as people write them: `60s`, `5m`, `64MiB`. */

/** Units by their names, the largest first; the last is the one of a number without a unit. */
export type Units = readonly (readonly [name: string, factor: number])[];

/** Of a time in seconds. */
export const SECONDS: Units = [
  ['h', 3600],
  ['m', 60],
  ['s', 1],
];

/** Of a size in bytes. */
export const SIZES: Units = [
  ['GiB', 2 ** 30],
  ['MiB', 2 ** 20],
  ['KiB', 2 ** 10],
  ['', 1],
];

/** The number that a text like `5m` says, in the smallest of `units`; null where it says none. */
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

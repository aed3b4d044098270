/** What the tables of findings have in a row. Types alone. */

/** How bad a finding is: `fail` is what has to be mended, `warn` what most likely has to be, `note` what is good to know. */
export type Level = 'ok' | 'note' | 'warn' | 'fail';

/** One finding that the doctor can come to. */
export interface FindingRow {
  readonly level: Level;
  /** What it means, as a sentence for the manual. */
  readonly meaning: string;
  /** What to do; null where there is nothing to be done. A check that knows better says something else. */
  readonly remedy: string | null;
}

/** A table of them by id. */
export type FindingRows = Readonly<Record<string, FindingRow>>;

/** A row of something that is right. */
export const ok = (meaning: string): FindingRow => ({ level: 'ok', meaning, remedy: null });

/** A row of something that is good to know. */
export const note = (meaning: string, remedy: string | null = null): FindingRow => ({ level: 'note', meaning, remedy });

/** A row of something that may be wrong. */
export const warn = (meaning: string, remedy: string): FindingRow => ({ level: 'warn', meaning, remedy });

/** A row of something that is wrong. */
export const fail = (meaning: string, remedy: string): FindingRow => ({ level: 'fail', meaning, remedy });

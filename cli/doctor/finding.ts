/** What the doctor finds: the rows of a subject's findings, one finding of them, and how it is printed. */

import { type Paint, paintNothing, type Tone } from '../ui/color.js';

/** How bad a finding is: `fail` is what has to be mended, `warn` what most likely has to be, `note` what is good to know. */
type Level = 'ok' | 'note' | 'warn' | 'fail';

/** A finding that the doctor can come to, as docs/doctor.md lists it. */
export interface FindingRow {
  readonly level: Level;
  /** What it means, as a sentence for the manual. */
  readonly meaning: string;
  /** What to do; null where nothing has to be done. A check that knows better says something else. */
  readonly remedy: string | null;
}

/** What can be found about a subject, by id. Each subject has its own rows beside its checks; findings.ts gathers them. */
export type FindingRows = Readonly<Record<string, FindingRow>>;

export const ok = (meaning: string): FindingRow => ({ level: 'ok', meaning, remedy: null });
export const note = (meaning: string, remedy: string | null = null): FindingRow => ({ level: 'note', meaning, remedy });
export const warn = (meaning: string, remedy: string): FindingRow => ({ level: 'warn', meaning, remedy });
export const fail = (meaning: string, remedy: string): FindingRow => ({ level: 'fail', meaning, remedy });

/** What a check has found. */
export interface Finding<Id extends string = string> {
  readonly level: Level;
  readonly id: Id;
  /** One line for people, in which everything foreign is escaped. */
  readonly message: string;
  /** What to do; null where nothing has to be done. */
  readonly remedy: string | null;
}

/** What makes the findings of a subject; its `remedy` is for a check that knows better than the row. */
export const findingsOf =
  <Ids extends string>(rows: Readonly<Record<Ids, FindingRow>>) =>
  <Id extends Ids>(id: Id, message: string, remedy: string | null = rows[id].remedy): Finding<Id> => ({
    level: rows[id].level,
    id,
    message,
    remedy,
  });

/** A finding, by which check, and about what. */
export interface Diagnosis extends Finding {
  /** The name of the check. */
  readonly check: string;
  /** What it is about, such as `channel vm1`. */
  readonly subject: string;
}

const TONES: Readonly<Record<Level, Tone>> = { ok: 'good', note: 'faint', warn: 'doubtful', fail: 'bad' };

/** A line for each: `fail channel vm1: …; do: …`. */
export function formatDiagnoses(diagnoses: readonly Diagnosis[], paint: Paint = paintNothing): string {
  return diagnoses.map((one) => `${formatDiagnosis(one, paint)}\n`).join('');
}

function formatDiagnosis({ level, subject, message, remedy }: Diagnosis, paint: Paint): string {
  return `${paint(level, TONES[level])}${' '.repeat(4 - level.length)} ${subject}: ${message}${remedy === null ? '' : `; do: ${remedy}`}`;
}

/** The line at the end. */
export function formatSummary(diagnoses: readonly Diagnosis[], paint: Paint = paintNothing): string {
  const count = (level: Level): number => diagnoses.filter((one) => one.level === level).length;
  const [fails, warnings] = [count('fail'), count('warn')];
  if (fails + warnings === 0) return `${paint('Nothing is wrong that could be seen from here.', 'good')}\n`;
  const said = `${fails} ${fails === 1 ? 'thing fails' : 'things fail'}, ${warnings} ${warnings === 1 ? 'warning' : 'warnings'}.`;
  return `${paint(said, fails > 0 ? 'bad' : 'doubtful')}\n`;
}

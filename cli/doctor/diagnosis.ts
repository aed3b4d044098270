/** What the doctor found about something, and how it is printed. */
import { type Paint, paintNothing, type Tone } from '../ui/color.js';
import type { Finding, Level } from './findings.js';

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

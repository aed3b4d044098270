/** Findings with their check and subject, and how they are printed. */
import { formatCount } from '../../lib/util/units.js';
import { type Paint, paintNothing, type Tone } from '../ui/color.js';
import type { Finding, Level } from './findings.js';

export interface Diagnosis extends Finding {
  readonly check: string;
  /** What it is about, such as `channel vm1`. */
  readonly subject: string;
}

const TONES: Readonly<Record<Level, Tone>> = { ok: 'good', note: 'faint', warn: 'doubtful', fail: 'bad' };

/** Formats one line for each: `fail channel vm1: …; do: …`. */
export function formatDiagnoses(diagnoses: readonly Diagnosis[], paint: Paint = paintNothing): string {
  return diagnoses.map((one) => `${formatDiagnosis(one, paint)}\n`).join('');
}

function formatDiagnosis({ level, subject, message, remedy }: Diagnosis, paint: Paint): string {
  return `${paint(level, TONES[level])}${' '.repeat(4 - level.length)} ${subject}: ${message}${remedy === null ? '' : `; do: ${remedy}`}`;
}

/** Formats the last line. */
export function formatSummary(diagnoses: readonly Diagnosis[], paint: Paint = paintNothing): string {
  const count = (level: Level): number => diagnoses.filter((one) => one.level === level).length;
  const [fails, warnings] = [count('fail'), count('warn')];
  if (fails + warnings === 0) return `${paint('No problems found.', 'good')}\n`;
  const summary = `${formatCount(fails, 'failure')}, ${formatCount(warnings, 'warning')}.`;
  return `${paint(summary, fails > 0 ? 'bad' : 'doubtful')}\n`;
}

/** The lines of `vproxy doctor`. */
import type { Diagnosis } from './finding.js';

/** `fail channel vm1: … ; do: …`, a line each. */
export function formatDiagnoses(diagnoses: readonly Diagnosis[]): string {
  return diagnoses.map((one) => `${formatDiagnosis(one)}\n`).join('');
}

function formatDiagnosis({ level, subject, message, remedy }: Diagnosis): string {
  return `${level.padEnd(4)} ${subject}: ${message}${remedy === null ? '' : `; do: ${remedy}`}`;
}

/** The line at the end. */
export function formatSummary(diagnoses: readonly Diagnosis[]): string {
  const count = (level: string): number => diagnoses.filter((one) => one.level === level).length;
  const [fails, warnings] = [count('fail'), count('warn')];
  if (fails + warnings === 0) return 'Nothing is wrong that could be seen from here.\n';
  return `${fails} ${fails === 1 ? 'thing fails' : 'things fail'}, ${warnings} ${warnings === 1 ? 'warning' : 'warnings'}.\n`;
}

/** What is printed and written of the results: lines, TAP, JUnit, and the summary by rule. */
import type { Failure } from './play.js';

export interface Result {
  readonly title: string;
  /** Null: it passed. A text: why it was skipped. */
  readonly outcome: null | string | Failure;
  /** The newest lines of the program's stderr. */
  readonly said: readonly string[];
  readonly ms: number;
}

const isFailure = (outcome: Result['outcome']): outcome is Failure => typeof outcome === 'object' && outcome !== null;

export const hasFailed = ({ outcome }: Result): boolean => isFailure(outcome);

function details({ outcome, said }: Result): string[] {
  if (!isFailure(outcome)) return [];
  const { line, sent, expected, came } = outcome;
  const rows = { at: line, sent, expected, came };
  const short = (text: string): string => (text.length > 400 ? `${text.slice(0, 400)}…` : text);
  return [
    ...Object.entries(rows).map(([name, text]) => `${`${name}:`.padEnd(10)}${short(text)}`),
    ...said.map((text) => `stderr:   ${short(text)}`),
  ];
}

export function formatLine(result: Result): string {
  const { title, outcome } = result;
  if (outcome === null) return `ok    ${title}`;
  if (typeof outcome === 'string') return `skip  ${title} (${outcome})`;
  return [`FAIL  ${title}`, ...details(result).map((text) => `        ${text}`)].join('\n');
}

export function formatTap(result: Result, number: number): string {
  const { title, outcome } = result;
  const name = `${number} - ${title.replaceAll('#', '')}`;
  if (outcome === null) return `ok ${name}`;
  if (typeof outcome === 'string') return `ok ${name} # SKIP ${outcome}`;
  const rows = details(result).map(
    (text) =>
      `  ${text.replace(/^(\w+): +(.*)$/s, (_, key: string, rest: string) => `${key}: ${JSON.stringify(rest)}`)}`,
  );
  return [`not ok ${name}`, '  ---', ...rows.filter((row) => !row.startsWith('  stderr')), '  ...'].join('\n');
}

const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`).replace(/[^\t\n\x20-\ud7ff\ue000-\ufffd]/g, '?');

export function formatJunit(results: readonly Result[]): string {
  const failed = results.filter(hasFailed).length;
  const skipped = results.filter(({ outcome }) => typeof outcome === 'string').length;
  const cases = results.map((result) => {
    const { title, outcome, ms } = result;
    const head = `  <testcase classname="${rulesOf(title)[0]}" name="${escaped(title)}" time="${(ms / 1000).toFixed(3)}"`;
    if (outcome === null) return `${head}/>`;
    if (typeof outcome === 'string') return `${head}><skipped message="${escaped(outcome)}"/></testcase>`;
    return `${head}><failure message="${escaped(outcome.came)}">${escaped(details(result).join('\n'))}</failure></testcase>`;
  });
  const counts = `tests="${results.length}" failures="${failed}" skipped="${skipped}"`;
  return `<?xml version="1.0"?>\n<testsuite name="conformance" ${counts}>\n${cases.join('\n')}\n</testsuite>\n`;
}

const rulesOf = (title: string): string[] => {
  const rules = [...title.matchAll(/R-[A-Z]+-\d+/g)].map(([rule]) => rule);
  return rules.length === 0 ? ['other'] : rules;
};

/** Counts by rule, and the reasons for which cases were skipped. */
export function formatSummary(results: readonly Result[]): string {
  const rules = new Map<string, [passed: number, failed: number, skipped: number]>();
  const reasons = new Map<string, number>();
  for (const { title, outcome } of results) {
    const column = outcome === null ? 0 : typeof outcome === 'string' ? 2 : 1;
    for (const rule of rulesOf(title)) {
      const counts = rules.get(rule) ?? [0, 0, 0];
      counts[column] += 1;
      rules.set(rule, counts);
    }
    if (typeof outcome === 'string') reasons.set(outcome, (reasons.get(outcome) ?? 0) + 1);
  }
  const total = [...results].reduce((sum, { outcome }) => sum + (outcome === null ? 1 : 0), 0);
  const failed = results.filter(hasFailed).length;
  const row = (cells: readonly (string | number)[]): string =>
    cells.map((cell, index) => String(cell)[index === 0 ? 'padEnd' : 'padStart'](index === 0 ? 16 : 9)).join('');
  return [
    row(['rule', 'passed', 'failed', 'skipped']),
    ...[...rules].map(([rule, counts]) => row([rule, ...counts])),
    '',
    ...[...reasons]
      .sort(([, a], [, b]) => b - a)
      .map(([reason, count]) => `${String(count).padStart(4)} skipped: ${reason}`),
    `${total} passed, ${failed} failed, ${results.length - total - failed} skipped`,
  ].join('\n');
}

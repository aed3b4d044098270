/** What is printed and written of the results: lines, TAP, JUnit, and the summary by rule. */
import { Failure } from './play.js';

export interface Result {
  readonly title: string;
  /** Null: it passed. A text: why it was skipped. */
  readonly outcome: null | string | Failure;
  /** The newest lines of the program's stderr. */
  readonly said: readonly string[];
  readonly ms: number;
}

export const hasFailed = ({ outcome }: Result): boolean => outcome instanceof Failure;

export function formatLine({ title, outcome, said }: Result): string {
  if (outcome === null) return `ok    ${title}`;
  if (typeof outcome === 'string') return `skip  ${title} (${outcome})`;
  const rows = [...Object.entries(outcome.rows), ...said.map((text) => ['stderr', text] as const)];
  return [`FAIL  ${title}`, ...rows.map(([name, text]) => `        ${`${name}:`.padEnd(10)}${text}`)].join('\n');
}

export function formatTap({ title, outcome, said }: Result, number: number): string {
  const name = `${number} - ${title.replaceAll('#', '')}`;
  if (outcome === null) return `ok ${name}`;
  if (typeof outcome === 'string') return `ok ${name} # SKIP ${outcome}`;
  const rows = Object.entries({ ...outcome.rows, stderr: said.join('\n') });
  return [`not ok ${name}`, '  ---', ...rows.map(([key, text]) => `  ${key}: ${JSON.stringify(text)}`), '  ...'].join(
    '\n',
  );
}

const escaped = (text: string): string =>
  text.replace(/[^\t\n\x20-\ud7ff\ue000-\ufffd]/g, '?').replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

export function formatJunit(results: readonly Result[]): string {
  const cases = results.map((result) => {
    const { title, outcome, ms } = result;
    const head = `  <testcase classname="${rulesOf(title)[0]}" name="${escaped(title)}" time="${(ms / 1000).toFixed(3)}">`;
    if (outcome === null) return `${head}</testcase>`;
    if (typeof outcome === 'string') return `${head}<skipped message="${escaped(outcome)}"/></testcase>`;
    return `${head}<failure message="${escaped(outcome.message)}">${escaped(formatLine(result))}</failure></testcase>`;
  });
  const { failed, skipped } = countsOf(results);
  const counts = `tests="${results.length}" failures="${failed}" skipped="${skipped}"`;
  return `<?xml version="1.0"?>\n<testsuite name="conformance" ${counts}>\n${cases.join('\n')}\n</testsuite>\n`;
}

const rulesOf = (title: string): string[] => title.match(/R-[A-Z]+-\d+/g) ?? ['other'];

function countsOf(results: readonly Result[]): Readonly<Record<'passed' | 'failed' | 'skipped', number>> {
  const skipped = results.filter(({ outcome }) => typeof outcome === 'string').length;
  const failed = results.filter(hasFailed).length;
  return { passed: results.length - failed - skipped, failed, skipped };
}

/** Counts by rule, and the reasons for which cases were skipped. */
export function formatSummary(results: readonly Result[]): string {
  const row = (name: string, cells: readonly unknown[]): string =>
    name.padEnd(16) + cells.map((cell) => String(cell).padStart(9)).join('');
  const rules = [...new Set(results.flatMap(({ title }) => rulesOf(title)))];
  const reasons = results.flatMap(({ outcome }) => (typeof outcome === 'string' ? [outcome] : []));
  const { passed, failed, skipped } = countsOf(results);
  return [
    row('rule', ['passed', 'failed', 'skipped']),
    ...rules.map((rule) =>
      row(rule, Object.values(countsOf(results.filter(({ title }) => rulesOf(title).includes(rule))))),
    ),
    '',
    ...[...new Set(reasons)].map((reason) => `${reasons.filter((one) => one === reason).length} skipped: ${reason}`),
    `${passed} passed, ${failed} failed, ${skipped} skipped`,
  ].join('\n');
}

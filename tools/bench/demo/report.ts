/** The output of the demonstration: its steps while they run, and the table at the end. */

export interface Outcome {
  readonly what: string;
  readonly result: string;
  readonly figures: string;
}

const HEAD: Outcome = { what: 'what', result: 'result', figures: 'figures' };

/** The table, as text with a newline at its end. */
export function formatTable(outcomes: readonly Outcome[]): string {
  const width = (column: 'what' | 'result') => Math.max(...[HEAD, ...outcomes].map((row) => row[column].length));
  const line = ({ what, result, figures }: Outcome) =>
    `${what.padEnd(width('what'))}  ${result.padEnd(width('result'))}  ${figures}\n`;
  const rule = { what: '-'.repeat(width('what')), result: '-'.repeat(width('result')), figures: '-'.repeat(30) };
  return [HEAD, rule, ...outcomes].map(line).join('');
}

export function say(text = ''): void {
  clearProgress();
  process.stdout.write(`${text}\n`);
}

/** Shows the progress of a step, on a terminal only; the next line replaces it. */
export function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`);
}

function clearProgress(): void {
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K');
}

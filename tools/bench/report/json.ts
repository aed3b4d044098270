/** The JSON file of a run. */

import type { ResultRow, Results } from '../results.js';
import type { BarResult } from './bars.js';
import { describeMachine } from './machine.js';

/** One figure of one contender. */
export interface FigureRecord {
  readonly work: string;
  readonly key: string;
  readonly title: string;
  readonly unit: string;
  readonly contender: string;
  /** Null if no round gave a figure. */
  readonly median: number | null;
  readonly min: number | null;
  readonly max: number | null;
  readonly rounds: readonly number[];
  readonly failure?: string;
}

/** Every cell with a result. */
export function figureRecords(rows: readonly ResultRow[], ids: readonly string[], results: Results): FigureRecord[] {
  return rows.flatMap(({ work, key, title, unit }) =>
    ids.flatMap((contender) => {
      const cell = results.cell(work, key, contender);
      if (cell === undefined) return [];
      const { median = null, min = null, max = null } = cell.summary ?? {};
      const failure = cell.failure === undefined ? {} : { failure: cell.failure };
      const name = title.trim();
      return [{ work, key, title: name, unit, contender, median, min, max, rounds: cell.rounds, ...failure }];
    }),
  );
}

/** The content: the machine, the options, what was missing, the figures and the bars. */
export function formatReport(report: {
  readonly options: Readonly<Record<string, unknown>>;
  readonly missing: Readonly<Record<string, string>>;
  readonly figures: readonly FigureRecord[];
  readonly bars: readonly BarResult[];
}): string {
  return `${JSON.stringify({ date: new Date().toISOString(), ...describeMachine(), ...report }, null, 2)}\n`;
}

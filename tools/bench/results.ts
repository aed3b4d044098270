/** The results of all rounds: figures and failures by work, row and contender. */
import { type Summary, summarize } from './table.js';
import { FIRST_PARTS, type Outcomes, type Row, type Work } from './work/work.js';

/** One cell of the table. */
export interface Cell {
  /** Median, smallest and largest; undefined if no round gave a figure. */
  readonly summary: Summary | undefined;
  /** The figures of the rounds, in their order. */
  readonly rounds: readonly number[];
  /** Why the last round without a figure gave none. */
  readonly failure: string | undefined;
}

/** A row of the table with the work that it belongs to. */
export interface ResultRow extends Row {
  readonly work: string;
}

/** Collects figures. */
export class Results {
  readonly #figures = new Map<string, number[]>();
  readonly #failures = new Map<string, string>();

  /** Records the outcome of a contender's round. */
  add(work: string, contender: string, outcomes: Outcomes): void {
    for (const [key, outcome] of Object.entries(outcomes)) {
      const id = idOf(work, key, contender);
      if (typeof outcome === 'string') this.#failures.set(id, outcome);
      else this.#figures.set(id, [...(this.#figures.get(id) ?? []), outcome]);
    }
  }

  /** Returns the cell; undefined if nothing was recorded. */
  cell(work: string, key: string, contender: string): Cell | undefined {
    const id = idOf(work, key, contender);
    const rounds = this.#figures.get(id);
    const failure = this.#failures.get(id);
    if (rounds === undefined && failure === undefined) return undefined;
    return { summary: rounds === undefined ? undefined : summarize(rounds), rounds: rounds ?? [], failure };
  }

  /** The median, or undefined. */
  median(work: string, key: string, contender: string): number | undefined {
    return this.cell(work, key, contender)?.summary?.median;
  }
}

/** Lists the rows of pieces of work, in the order of the table. */
export function rowsOf(works: readonly Pick<Work, 'id' | 'rows'>[], amounts: Parameters<Work['rows']>[0]): ResultRow[] {
  const rows = works.flatMap((work) => work.rows(amounts).map((row) => ({ ...row, work: work.id })));
  return [...FIRST_PARTS, undefined].flatMap((wanted) => rows.filter(({ part }) => part === wanted));
}

const idOf = (work: string, key: string, contender: string): string => `${work} ${key} ${contender}`;

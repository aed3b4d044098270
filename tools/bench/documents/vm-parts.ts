/** The output of `npm run bench:vm -- --documents` in docs/performance-notebook.md: the tables of the guest, and of serial lines. */
import type { MachineFacts } from '../report/machine.js';
import { describeRanges, NOTEBOOK } from './bench-parts.js';
import type { DocumentPart } from './parts.js';

/** A table of the report, with the bars of its figures. */
export interface VmTable {
  /** The name of the part. */
  readonly name: string;
  readonly works: readonly string[];
  /** The machine that it was measured on. */
  readonly where: string;
  /** The figures, and the bars where there are some, in Markdown. */
  readonly texts: readonly string[];
}

/** A part for each table. */
export function vmParts(tables: readonly VmTable[], rounds: number, machine: MachineFacts): DocumentPart[] {
  return tables.map(({ name, works, where, texts }) => ({
    ...{ file: NOTEBOOK, name, works },
    content: `${describeRanges(rounds, machine)}, ${where}.\n\n${texts.filter((text) => text !== '').join('\n\n')}`,
  }));
}

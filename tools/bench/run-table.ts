/** The run that produces the table of figures. */
import { formatCount } from '../../lib/util/units.js';
import type { Contender, ContenderSetting } from './contenders/contender.js';
import { benchParts } from './documents/bench-parts.js';
import { type DocumentPart, measuredParts } from './documents/parts.js';
import type { BenchOptions } from './options.js';
import type { RunningProgram } from './process/programs.js';
import { compareWithBars, formatBars } from './report/bars.js';
import { formatFailures, formatFigures } from './report/figures-table.js';
import { figureRecords, formatReport } from './report/json.js';
import { describeMachine } from './report/machine.js';
import { Results, rowsOf } from './results.js';
import { runRounds } from './rounds.js';
import { measureSideTable, SIDE_TABLES } from './side-tables.js';
import { WORK } from './work/list.js';

/** The resources of a run. */
export interface RunSetting {
  readonly setting: ContenderSetting;
  readonly target: RunningProgram;
  readonly progress: (line: string) => void;
}

/** The output of a run: a human-readable text, and the content of the JSON file. */
export interface RunReport {
  readonly text: string;
  readonly json: string;
  /** Plots by file name. */
  readonly drawings?: ReadonlyMap<string, string>;
  /** The document parts that can be written from it. */
  readonly documents?: readonly DocumentPart[];
}

/** Measures, and reports. */
export async function runTable(options: BenchOptions, run: RunSetting): Promise<RunReport> {
  const { rounds, only, contenders, amounts } = options;
  const results = new Results();
  const works = WORK.filter(({ id }) => only.test(id));
  const missing = listMissing(contenders);
  const present = contenders.filter(({ id }) => !missing.has(id));
  const sideTables = SIDE_TABLES.filter(({ work }) => only.test(work.id));
  for (const table of sideTables) await measureSideTable(table, options, run, results);
  if (works.length > 0) {
    const isOver = (): boolean => performance.now() > options.beginUntilMs;
    await runRounds({ ...run, quick: options.quick, isOver, rounds, contenders: present, works, amounts }, results);
  }
  const tables = [
    { rows: rowsOf(works, amounts), columns: contenders },
    ...sideTables.map(({ work, columns }) => ({ rows: rowsOf([work], amounts), columns })),
  ].filter(({ rows }) => rows.length > 0);
  const bars = compareWithBars(results);
  const texts = [
    ...tables.map(({ rows, columns }) => formatFigures(rows, columns, missing, results)),
    formatBars(bars),
    formatNotes(
      options,
      missing,
      tables.flatMap(({ rows, columns }) => formatFailures(rows, columns, results)),
    ),
  ];
  const findings = { options, missing, results, bars, machine: describeMachine() };
  return {
    documents: measuredParts(benchParts(findings), only),
    text: texts.filter((text) => text !== '').join('\n\n'),
    json: formatReport({
      options: {
        rounds,
        only: only.source,
        contenders: contenders.map(({ id }) => id),
        quick: options.quick,
        ...amounts,
      },
      missing: Object.fromEntries(missing),
      figures: tables.flatMap(({ rows, columns }) =>
        figureRecords(
          rows,
          columns.map(({ id }) => id),
          results,
        ),
      ),
      bars,
    }),
  };
}

/** Lists the contenders that cannot run here, each with its remedy. */
export function listMissing(contenders: readonly Contender[]): Map<string, string> {
  return new Map(contenders.map(({ id, missing }) => [id, missing()] as const).filter(isMissing));
}

const isMissing = (entry: readonly [string, string | undefined]): entry is readonly [string, string] =>
  entry[1] !== undefined;

function formatNotes(options: BenchOptions, missing: ReadonlyMap<string, string>, failures: readonly string[]): string {
  return [
    `Medians of ${formatCount(options.rounds, 'round')}, with minimum and maximum below. "fails" and "!": see below.`,
    ...[...missing].map(([id, hint]) => `${id} is missing: ${hint}`),
    ...failures,
  ].join('\n');
}

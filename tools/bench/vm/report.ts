/** The output of a run of `npm run bench:vm`. */
import { measuredParts } from '../documents/parts.js';
import { formatBarTable, formatMedians, formatRanges } from '../documents/tables.js';
import { type VmTable, vmParts } from '../documents/vm-parts.js';
import { type Bar, compareWithBars, formatBars } from '../report/bars.js';
import { type Column, formatFailures, formatFigures } from '../report/figures-table.js';
import { figureRecords, formatReport } from '../report/json.js';
import { describeMachine } from '../report/machine.js';
import type { ResultRow, Results } from '../results.js';
import type { RunReport } from '../run-table.js';
import { COMMANDS_BARS, COMMANDS_CONTENDERS, COMMANDS_ROWS } from './commands.js';
import { VM_CONTENDERS } from './contenders.js';
import type { VmBenchOptions } from './options.js';
import { PAUSES_CONTENDERS, PAUSES_ROWS } from './pauses.js';
import { BAUDS, SERIAL_LEAD_ROWS, SERIAL_VARIANTS, serialRows } from './serial-line.js';
import { VM_BARS, VM_WORK } from './work.js';

/** The tables with their bars, and the content of the JSON file. */
export function reportVm(options: VmBenchOptions, results: Results, accelerator: string | undefined): RunReport {
  const { rounds, only, amounts } = options;
  const guestRows: ResultRow[] = VM_WORK.flatMap(({ id, rows }) => rows.map((row) => ({ ...row, work: id })));
  const lineRows = BAUDS.flatMap(serialRows);
  const ofWork = ({ work }: ResultRow): boolean => only.test(work);
  const [shown, shownLines] = [guestRows.filter(ofWork), lineRows.filter(ofWork)];
  const [shownCommands, shownPauses] = [COMMANDS_ROWS.filter(ofWork), PAUSES_ROWS.filter(ofWork)];
  const bars = compareWithBars(results, [...VM_BARS, ...COMMANDS_BARS]);
  const columns = [...VM_CONTENDERS, ...COMMANDS_CONTENDERS, ...SERIAL_VARIANTS];
  const figuresOf = (rows: readonly ResultRow[], contenders: readonly Column[]): string =>
    formatFigures(rows, contenders, new Set(), results);
  const texts = [
    ...(shown.length > 0 ? [`In the guest, under ${accelerator}:`, figuresOf(shown, VM_CONTENDERS)] : []),
    ...(shownPauses.length > 0 ? [figuresOf(shownPauses, PAUSES_CONTENDERS)] : []),
    ...(shownCommands.length > 0 ? [figuresOf(shownCommands, COMMANDS_CONTENDERS)] : []),
    formatBars(bars),
    ...(shownLines.length > 0
      ? [
          'On a simulated serial line, outside the guest, between two vproxy processes with the credit of tty-open,\nand with the minimum:',
          figuresOf(shownLines, SERIAL_VARIANTS),
        ]
      : []),
    [
      `Medians of ${rounds} rounds, with minimum and maximum below. "–": needs several streams, which a relay without a`,
      'multiplexer cannot carry. The serial line is simulated, because QEMU does not limit its own lines to their speed;',
      'its clock ticks every 10 ms, and stops while the machine is busy with something else.',
      ...formatFailures([...shown, ...shownPauses, ...shownCommands, ...shownLines], columns, results),
    ].join('\n'),
  ];
  const shownIn = (name: string, where: string, rows: readonly ResultRow[], ...tables: string[]): VmTable => ({
    ...{ name, where, works: rows.map(({ work }) => work), texts: tables },
  });
  const inGuest = `in a guest under ${accelerator}`;
  const tableOf = (rows: readonly ResultRow[], contenders: readonly Column[]): string =>
    formatRanges(rows, { columns: contenders, missing: new Set(), results });
  const barsOf = (wanted: readonly Bar[]): string => formatBarTable(compareWithBars(results, wanted));
  const lineFigures = { columns: SERIAL_VARIANTS, missing: new Set<string>(), results };
  const tables = [
    shownIn('guest', inGuest, guestRows, tableOf(guestRows, VM_CONTENDERS), barsOf(VM_BARS)),
    shownIn(
      'serial-lines',
      'on simulated lines without a guest',
      lineRows,
      formatMedians(SERIAL_LEAD_ROWS, lineFigures),
    ),
  ];
  return {
    documents: measuredParts(vmParts(tables, rounds, describeMachine()), only),
    text: texts.filter((text) => text !== '').join('\n\n'),
    json: formatReport({
      options: { rounds, only: only.source, accelerator: accelerator ?? null, ...amounts },
      missing: {},
      figures: figureRecords(
        [...shown, ...shownPauses, ...shownCommands, ...shownLines],
        columns.map(({ id }) => id),
        results,
      ),
      bars,
    }),
  };
}

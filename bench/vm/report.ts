/** What a run of `npm run bench:vm` leaves. */
import { compareWithBars, formatBars } from '../report/bars.js';
import { formatFailures, formatFigures } from '../report/figures-table.js';
import { figureRecords, formatReport } from '../report/json.js';
import type { ResultRow, Results } from '../results.js';
import type { RunReport } from '../run-table.js';
import { COMMANDS_BARS, COMMANDS_CONTENDERS, COMMANDS_ROWS } from './commands.js';
import { VM_CONTENDERS } from './contenders.js';
import type { VmBenchOptions } from './options.js';
import { BAUDS, SERIAL_VARIANTS, serialRows } from './serial-line.js';
import { VM_BARS, VM_WORK } from './work.js';

/** The tables with their bars, and the content of the JSON file. */
export function reportVm(options: VmBenchOptions, results: Results, accelerator: string | undefined): RunReport {
  const { rounds, only, amounts } = options;
  const guestRows: ResultRow[] = VM_WORK.flatMap(({ id, rows }) => rows.map((row) => ({ ...row, work: id })));
  const lineRows = BAUDS.flatMap(serialRows);
  const ofWork = ({ work }: ResultRow): boolean => only.test(work);
  const [shown, shownLines] = [guestRows.filter(ofWork), lineRows.filter(ofWork)];
  const shownCommands = COMMANDS_ROWS.filter(ofWork);
  const bars = compareWithBars(results, [...VM_BARS, ...COMMANDS_BARS]);
  const columns = [...VM_CONTENDERS, ...COMMANDS_CONTENDERS, ...SERIAL_VARIANTS];
  const texts = [
    ...(shown.length > 0
      ? [`In the guest, under ${accelerator}:`, formatFigures(shown, VM_CONTENDERS, new Set(), results)]
      : []),
    ...(shownCommands.length > 0 ? [formatFigures(shownCommands, COMMANDS_CONTENDERS, new Set(), results)] : []),
    formatBars(bars),
    ...(shownLines.length > 0
      ? [
          'On a simulated serial line, outside the guest, between two vproxy processes with the credit of tty-open,\nand with the least that there is:',
          formatFigures(shownLines, SERIAL_VARIANTS, new Set(), results),
        ]
      : []),
    [
      `Medians of ${rounds} rounds, and below them the smallest and the largest. "–": takes several streams, which a relay`,
      'without a multiplexer does not carry. QEMU does not hold its serial lines to their speed: hence the simulated one,',
      'whose clock ticks every 10 ms, and stands still while the machine does something else.',
      ...formatFailures([...shown, ...shownCommands, ...shownLines], columns, results),
    ].join('\n'),
  ];
  return {
    text: texts.filter((text) => text !== '').join('\n\n'),
    json: formatReport({
      options: { rounds, only: only.source, accelerator: accelerator ?? null, ...amounts },
      missing: {},
      figures: figureRecords(
        [...shown, ...shownCommands, ...shownLines],
        columns.map(({ id }) => id),
        results,
      ),
      bars,
    }),
  };
}

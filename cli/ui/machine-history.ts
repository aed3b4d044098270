/** What a vproxy did to its machine, in the answers of `vproxy info` and `vproxy status`. */
import type { MachineHistory } from '../../lib/status/types.js';
import { formatDuration, formatLocalTime } from './print.js';

/** Facts with their names; nothing for what never happened, or what an older version does not tell. */
export function describeHistory(history: MachineHistory | undefined): [name: string, value: string][] {
  if (history === undefined) return [];
  const { restoredAt, clockSteppedAt, clockSteppedByMs, frozenAt } = history;
  const by = clockSteppedByMs ?? 0;
  const facts: readonly [name: string, moment: string | null, more: string][] = [
    ['restored', restoredAt, ''],
    ['clock set', clockSteppedAt, `, by ${formatDuration(Math.abs(by))} ${by < 0 ? 'back' : 'forward'}`],
    ['frozen', frozenAt, ''],
  ];
  return facts.flatMap(([name, moment, more]) => (moment === null ? [] : [[name, `${formatTime(moment)}${more}`]]));
}

const formatTime = (moment: string): string => formatLocalTime(new Date(moment)).slice(0, 'YYYY-MM-DD HH:MM:SS'.length);

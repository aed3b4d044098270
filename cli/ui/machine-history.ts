/** What a vproxy did to its machine, in the answers of `vproxy info` and `vproxy status`. */
import type { MachineHistory } from '../../lib/status/types.js';
import { formatDuration, formatLocalTime } from './print.js';

/** Facts with their names; nothing for what never happened, or what an older version does not tell. */
export function describeHistory(history: MachineHistory | undefined): [name: string, value: string][] {
  if (history === undefined) return [];
  const { restoredAt, clockSteppedAt, clockSteppedByMs, frozenAt, refusedOptions } = history;
  const by = clockSteppedByMs ?? 0;
  const facts: readonly [name: string, moment: string | null, more: string][] = [
    ['restored', restoredAt, ''],
    ['clock set', clockSteppedAt, `, by ${formatDuration(Math.abs(by))} ${by < 0 ? 'back' : 'forward'}`],
    ['frozen', frozenAt, ''],
  ];
  const options = refusedOptions ? [['options', describeRefused(refusedOptions)] as [string, string]] : [];
  return [
    ...options,
    ...facts.flatMap(([name, moment, more]): [string, string][] =>
      moment === null ? [] : [[name, `${formatTime(moment)}${more}`]],
    ),
  ];
}

/** Describes what is in effect instead of refused options. */
export const describeRefused = (instead: 'last' | 'none'): string =>
  `VPROXY_OPTIONS was refused; ${instead === 'last' ? 'the last options that worked are' : 'none are'} in effect`;

const formatTime = (moment: string): string => formatLocalTime(new Date(moment)).slice(0, 'YYYY-MM-DD HH:MM:SS'.length);

/** A process in lines for people. */
import type { ControlStatus } from '../../lib/control/routes/status.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatAge, formatBytes, formatCount, formatDuration } from './units.js';

/** Who it is, how long it runs, and what it uses. */
export function formatProcess({ process, forwards, streams }: ControlStatus): string[] {
  const { name, pid, version, node, uptimeMs, memory, eventLoopDelay, logLevel } = process;
  const delay =
    eventLoopDelay === null
      ? ''
      : `, timers late by ${formatDuration(eventLoopDelay.meanMs)} (p99 ${formatDuration(eventLoopDelay.p99Ms)})`;
  return [
    `${name === null ? '' : `${escapeText(name)}: `}process ${pid}, ${escapeText(version)} on Node ${escapeText(node)}, up ${formatAge(uptimeMs)}`,
    `memory ${formatBytes(memory.residentBytes)} (heap ${formatBytes(memory.heapBytes)})${delay}`,
    `${formatCount(forwards, 'forward')}, ${formatCount(streams, 'stream')}, log level ${logLevel}`,
  ];
}

/** `vproxy ps`: the vproxys that run on this machine. */
import type { Arguments } from '../command/arguments.js';
import { type Command, JSON_OPTION } from '../command/command.js';
import { type ListedProcess, listProcesses } from '../command/list-processes.js';
import { formatBytes, outputWidth, print, printJson } from '../ui/print.js';
import { type Column, formatTable } from '../ui/table.js';

export const command: Command = {
  usage: 'ps [--json]',
  about:
    'Lists the vproxys that run on this machine: the name or number that --name takes, the number of channels and of sessions, memory, and since when each runs. Of processes that may not be asked, such as those of other users, what the system says is listed.',
  examples: [['vproxy ps', 'All that this user may see']],
  options: JSON_OPTION,
  isLocal: true,
  run: showProcesses,
};

const COLUMNS: readonly Column[] = [
  { title: 'NAME', leastWidth: 12 },
  { title: 'PID', align: 'right' },
  { title: 'USER', leastWidth: 8 },
  { title: 'CHANNELS', align: 'right' },
  { title: 'SESSIONS', align: 'right' },
  { title: 'MEMORY', align: 'right' },
  { title: 'SINCE' },
];

async function showProcesses(args: Arguments): Promise<void> {
  const { VPROXY_SOCKET, XDG_RUNTIME_DIR } = process.env;
  const processes = await listProcesses({
    isRoot: process.getuid?.() === 0,
    runtimeDirectory: XDG_RUNTIME_DIR ?? null,
    socket: VPROXY_SOCKET || null,
  });
  if (args.has('json')) printJson(processes);
  else print(`${formatProcesses(processes, outputWidth()).join('\n')}\n`);
}

/** A table, and below it why something may be missing. */
export function formatProcesses(processes: readonly ListedProcess[], width: number | null): string[] {
  if (processes.length === 0) return ['No vproxy runs here, as far as this user can see.'];
  const unasked = processes.filter(({ socket }) => socket === null);
  const note = `What is missing could not be asked: ${unasked.length === 1 ? 'that process is' : 'these processes are'} of another user, or without a control socket.`;
  return [...formatTable(COLUMNS, processes.map(rowOf), width), ...(unasked.length === 0 ? [] : ['', note])];
}

const rowOf = ({ name, pid, user, channels, sessions, memoryBytes, since }: ListedProcess): string[] => [
  name ?? '-',
  String(pid),
  user ?? '-',
  String(channels ?? '-'),
  String(sessions ?? '-'),
  memoryBytes === null ? '-' : formatBytes(memoryBytes),
  since === null ? '-' : formatMoment(new Date(since)),
];

/** `2026-03-31 08:59`, by the clock of this machine. */
function formatMoment(date: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

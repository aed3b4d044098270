/** `vproxy ps`: lists the vproxys running on this machine. */
import { type Command, JSON_OPTION } from '../command/command.js';
import { type ListedProcess, listProcesses } from '../command/list-processes.js';
import { formatBytes, outputWidth, printAnswer } from '../ui/print.js';
import { type Column, formatTable } from '../ui/table.js';

export const command: Command = {
  usage: 'ps [--json]',
  about:
    'Lists the vproxys running on this machine: the name or PID that --name takes, the number of channels and of sessions, memory, and the start time. Processes that may not be asked, such as those of other users, are listed from /proc.',
  examples: [['vproxy ps', 'All that this user can see']],
  options: JSON_OPTION,
  isLocal: true,
  async run(args) {
    const { VPROXY_SOCKET, XDG_RUNTIME_DIR } = process.env;
    const processes = await listProcesses({
      isRoot: process.getuid?.() === 0,
      runtimeDirectory: XDG_RUNTIME_DIR ?? null,
      socket: VPROXY_SOCKET || null,
    });
    printAnswer(args, processes, () => formatProcesses(processes, outputWidth()));
  },
};

const COLUMNS: readonly Column<ListedProcess>[] = [
  { title: 'NAME', cell: ({ name }) => name ?? '-', leastWidth: 12 },
  { title: 'PID', cell: ({ pid }) => String(pid), align: 'right' },
  { title: 'USER', cell: ({ user }) => user ?? '-', leastWidth: 8 },
  { title: 'CHANNELS', cell: ({ channels }) => String(channels ?? '-'), align: 'right' },
  { title: 'SESSIONS', cell: ({ sessions }) => String(sessions ?? '-'), align: 'right' },
  {
    title: 'MEMORY',
    cell: ({ memoryBytes }) => (memoryBytes === null ? '-' : formatBytes(memoryBytes)),
    align: 'right',
  },
  { title: 'SINCE', cell: ({ since }) => (since === null ? '-' : formatMoment(new Date(since))) },
];

/** A table, and below it the reason for missing values. */
export function formatProcesses(processes: readonly ListedProcess[], width: number | null): string[] {
  if (processes.length === 0) return ['No running vproxy found, as far as this user can see.'];
  const unasked = processes.filter(({ socket }) => socket === null);
  const note = 'A dash: could not be asked, as the process belongs to another user, or has no control socket.';
  return [...formatTable(COLUMNS, processes, width), ...(unasked.length === 0 ? [] : ['', note])];
}

/** `2026-03-31 08:59`, by the clock of this machine. */
function formatMoment(date: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

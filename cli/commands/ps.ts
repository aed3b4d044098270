/** `vproxy ps`: lists the vproxy processes running on this machine. */
import { socketInEnvironment } from '../command/find-process.js';
import { listCommand } from '../command/list-command.js';
import { type ListedProcess, listProcesses } from '../command/list-processes.js';
import { formatBytes, formatLocalTime } from '../ui/print.js';
import { type Column, columnsFor, formatTable } from '../ui/table.js';

export const command = listCommand<readonly ListedProcess[]>({
  usage: 'ps [-o json|name|wide] [--watch]',
  about:
    'Lists the vproxy processes running on this machine: the name or PID that --name takes, the number of channels and of sessions, memory, and the start time. Processes that may not be asked, such as those of other users, are listed from /proc.',
  examples: [
    ['vproxy ps', 'All that this user can see'],
    ['vproxy ps -o wide', 'With their control sockets'],
  ],
  isLocal: true,
  options: { all: { short: 'a', describe: 'All that can be seen; always on', isHidden: true } },
  open() {
    const runtimeDirectory = process.env['XDG_RUNTIME_DIR'] ?? null;
    const place = { isRoot: process.getuid?.() === 0, runtimeDirectory, socket: socketInEnvironment() ?? null };
    return Promise.resolve(() => listProcesses(place));
  },
  names: (processes) => processes.map(({ name, pid }) => name ?? String(pid)),
  lines: (processes, { width, isWide }) => formatProcesses(processes, width, isWide),
});

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
  { title: 'SINCE', cell: ({ since }) => (since === null ? '-' : formatLocalTime(new Date(since)).slice(0, 16)) },
  { title: 'SOCKET', cell: ({ socket }) => socket ?? '-', isWide: true },
];

/** A table, and below it the reason for missing values. */
export function formatProcesses(processes: readonly ListedProcess[], width: number | null, isWide = false): string[] {
  if (processes.length === 0) return ['No running vproxy found, as far as this user can see.'];
  const unasked = processes.filter(({ socket }) => socket === null);
  const note = 'A dash: could not be asked, as the process belongs to another user, or has no control socket.';
  return [...formatTable(columnsFor(COLUMNS, isWide), processes, width), ...(unasked.length === 0 ? [] : ['', note])];
}

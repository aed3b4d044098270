/** `vproxy jobs` and `vproxy jobs stop`: commands of a peer that outlive their caller. */
import type { JobOfChannel } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import { CHANNEL_FILTER, CHANNEL_OPTION, type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf, splitLabel } from '../command/labels.js';
import { listCommand } from '../command/list-command.js';
import { waitThrough } from '../command/open-service.js';
import { formatAge, formatBytes, printAnswer } from '../ui/print.js';
import { type Column, columnsFor, formatTable } from '../ui/table.js';

const COLUMNS: readonly Column<JobOfChannel>[] = [
  { title: 'JOB', cell: nameOf, leastWidth: 12 },
  { title: 'TAG', cell: ({ tag }) => tag ?? '-', leastWidth: 6 },
  { title: 'STATE', cell: ({ endedAt, ...end }) => (endedAt === null ? 'running' : describeEnd(end)) },
  { title: 'STARTED', cell: ({ startedAt }) => startedAt.slice(0, 19).replace('T', ' '), leastWidth: 10 },
  { title: 'TIME', cell: ({ startedAt, endedAt }) => formatAge(timeOf(endedAt) - timeOf(startedAt)), align: 'right' },
  { title: 'OUTPUT', cell: ({ bytes }) => formatBytes(bytes), align: 'right' },
  { title: 'USED', cell: describeUsage, isWide: true },
  { title: 'INPUT', cell: describeInput },
  { title: 'PID', cell: ({ pid }) => String(pid), align: 'right', isWide: true },
  { title: 'USER', cell: ({ user }) => user ?? '-', isWide: true },
  { title: 'COMMAND', cell: ({ argv }) => argv.join(' ') || '(login shell)', leastWidth: 16 },
];

export const list = listCommand<readonly JobOfChannel[]>({
  usage: 'jobs [LABEL] [-o json|name|wide] [--watch]',
  about:
    'Lists the jobs at the peers: commands that vproxy exec --detach started, and that outlive it. Ended ones stay for an hour.',
  examples: [
    ['vproxy jobs', 'Of all channels'],
    ['vproxy jobs vm1 -o json', 'Of one channel, for a script'],
  ],
  options: CHANNEL_FILTER,
  operands: ['[LABEL]'],
  async open(args) {
    const channel = channelOf(args, args.operands[0]);
    const control = await openControl(args);
    const read = () => control.jobs({ channel });
    return args.text('watch') === undefined ? () => waitThrough(control.path, channel, read()) : read;
  },
  names: (jobs) => jobs.map(nameOf),
  lines: (jobs, { isWide, width, paint }) =>
    jobs.length === 0 ? ['No connected peer has jobs.'] : formatTable(columnsFor(COLUMNS, isWide), jobs, width, paint),
});

/** The longest timer, 24 days. */
const MAX_SECONDS = 2_147_483;

export const stop: Command = {
  usage: 'jobs stop [LABEL/]ID [--kill-after SECONDS] [--json]',
  about:
    'Ends a job: sends TERM to its process group, and later KILL, as after a timeout. Waits until the job has ended, and prints how.',
  examples: [['vproxy jobs stop vm1/1f0c92ab', 'As vproxy jobs names it']],
  options: {
    'kill-after': { value: 'SECONDS', describe: 'Time from TERM to KILL [default: 5]' },
    ...CHANNEL_OPTION,
    ...JSON_OPTION,
  },
  operands: ['ID'],
  async run(args) {
    const killAfterS = args.seconds('kill-after', 0, MAX_SECONDS);
    const { control, id, channel } = await openJob(args);
    const killAfterMs = killAfterS === undefined ? undefined : killAfterS * 1000;
    const stopped = control.stopJob(id, { channel, killAfterMs });
    const { status, signal, timedOut } = await waitThrough(control.path, channel, stopped);
    const end = { status, signal, timedOut };
    printAnswer(args, end, () => [`${escapeText(args.operands[0] ?? '')}: ${describeEnd(end)}`]);
  },
};

/** The job that the first operand names, and the process to ask. */
export async function openJob(args: Arguments) {
  const { label, rest: id } = splitLabel(args.operands[0] ?? '');
  const channel = channelOf(args, label);
  return { control: await openControl(args), id, channel };
}

function nameOf({ channel, id }: JobOfChannel): string {
  return `${channel}/${id}`;
}

function describeInput({ terminal, takesInput, hasWriter }: JobOfChannel): string {
  const kind = terminal ? 'terminal' : takesInput ? 'pipe' : '-';
  return hasWriter ? `${kind}, in use` : kind;
}

function describeUsage({ usage }: JobOfChannel): string {
  if (usage === null) return '-';
  return usage.peakBytes === null
    ? formatAge(usage.cpuMs)
    : `${formatAge(usage.cpuMs)}, ${formatBytes(usage.peakBytes)}`;
}

function describeEnd({ status, signal, timedOut }: Pick<JobOfChannel, 'status' | 'signal' | 'timedOut'>): string {
  return timedOut ? 'timed out' : (signal ?? `exit ${status ?? 'unknown'}`);
}

const timeOf = (text: string | null): number => (text === null ? Date.now() : Date.parse(text));

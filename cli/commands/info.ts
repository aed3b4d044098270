/** `vproxy info`: shows the machine of a peer, as it reports it, and its clock compared with the local one. */

import { judgeBoot } from '../../lib/services/info/judge-boot.js';
import type { Disk, MachineInfo, NetworkInterface } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatCount } from '../../lib/util/units.js';
import { CHANNEL_OPTION, type Command } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf } from '../command/labels.js';
import { waitThrough } from '../command/open-service.js';
import { describeHistory } from '../ui/machine-history.js';
import { formatAge, formatBytes, formatDuration, outputWidth, printAnswer } from '../ui/print.js';
import { type Column, formatFacts, formatTable } from '../ui/table.js';

export const command: Command = {
  usage: 'info [LABEL] [--json]',
  about:
    "Shows the machine of a peer, as it reports it: names, memory, disks and addresses, and how much its clock differs from this side's. A guest answers its host; other peers only with --info.",
  examples: [
    ['vproxy info vm1', 'The machine behind a channel'],
    ['vproxy info vm1 --json | jq .addresses', 'A part of it, for a script'],
  ],
  options: {
    ...CHANNEL_OPTION,
    json: { describe: 'Print everything as JSON' },
  },
  operands: ['[LABEL]'],
  async run(args) {
    const channel = channelOf(args, args.operands[0]);
    const control = await openControl(args);
    const machine = await waitThrough(control.path, channel, control.info({ channel }));
    printAnswer(args, machine, () => formatMachine(machine, outputWidth()));
  },
};

/** Formats lines of at most `width` columns (null: unlimited), with escaped texts. */
export function formatMachine(machine: MachineInfo, width: number | null): string[] {
  const { disks, interfaces } = machine;
  return [
    ...formatFacts(describeFacts(machine), width),
    ...(disks.length === 0 ? [] : ['', ...formatTable(DISK_COLUMNS, disks, width)]),
    ...(interfaces.length === 0 ? [] : ['', ...formatTable(INTERFACE_COLUMNS, interfaces, width)]),
  ];
}

function describeFacts(machine: MachineInfo): [name: string, value: string][] {
  const { channel, hostName, os, kernel, bootId, uptimeS, processors, load, memory, clock } = machine;
  const swap = `swap ${formatBytes(memory.swapTotalBytes)}, ${formatBytes(memory.swapFreeBytes)} free`;
  return [
    ['channel', escapeText(channel)],
    ['host name', escapeText(hostName)],
    ['system', escapeText(os?.name ?? os?.id ?? '-')],
    ['kernel', escapeText([kernel.name, kernel.release, kernel.architecture].join(' '), 800)],
    ['boot id', escapeText(bootId ?? '-')],
    ['up', `${formatAge(uptimeS * 1000)}, ${describeBoot(machine)}`],
    ['load', `${load.map((value) => value.toFixed(2)).join(' ')}, ${formatCount(processors, 'processor')}`],
    ['memory', `${formatBytes(memory.totalBytes)}, ${formatBytes(memory.availableBytes)} available; ${swap}`],
    ['clock', describeClock(clock)],
    ...describeHistory(machine.history),
  ];
}

/** `booted`, and remarks. */
function describeBoot({ boot }: MachineInfo): string {
  const { verdict, remarks } = judgeBoot(boot);
  const word = verdict === 'failed' ? 'booted' : verdict;
  return [word, ...remarks].join('; ');
}

function describeClock({ offsetMs, uncertaintyMs }: MachineInfo['clock']): string {
  const give = `± ${formatDuration(uncertaintyMs)}`;
  if (Math.abs(offsetMs) <= uncertaintyMs) return `as here, ${give}`;
  return `${formatDuration(Math.abs(offsetMs))} ${offsetMs > 0 ? 'ahead' : 'behind'}, ${give}`;
}

const DISK_COLUMNS: readonly Column<Disk>[] = [
  { title: 'MOUNTED ON', cell: ({ mountPoint }) => mountPoint, leastWidth: 12 },
  { title: 'TYPE', cell: ({ type }) => type },
  { title: 'SIZE', cell: ({ sizeBytes }) => formatSize(sizeBytes), align: 'right' },
  { title: 'USED', cell: (disk) => formatSize(usedBytes(disk)), align: 'right' },
  { title: 'AVAILABLE', cell: ({ availableBytes }) => formatSize(availableBytes), align: 'right' },
  { title: 'DEVICE', cell: ({ device }) => device, leastWidth: 12 },
];

const formatSize = (bytes: number | null): string => (bytes === null ? '-' : formatBytes(Math.max(0, bytes)));

const usedBytes = ({ sizeBytes, freeBytes }: Disk): number | null =>
  sizeBytes === null || freeBytes === null ? null : sizeBytes - freeBytes;

const INTERFACE_COLUMNS: readonly Column<NetworkInterface>[] = [
  { title: 'INTERFACE', cell: ({ name }) => name },
  { title: 'MAC', cell: ({ mac }) => mac ?? '-' },
  { title: 'ADDRESSES', cell: ({ addresses }) => addresses.join(' '), leastWidth: 20 },
];

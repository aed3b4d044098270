/** `vproxy status`. */
import type { ChannelStatus, ControlStatus } from '../../lib/status/types.js';
import { openControl } from '../command/control-client.js';
import { type ListView, listCommand } from '../command/list-command.js';
import { formatChannel, formatChannels, formatProcess } from '../ui/status.js';

export const command = listCommand<ControlStatus>({
  usage: 'status [--verbose] [-o json|name|wide] [--watch]',
  about: 'Shows the process, and for each of its channels the state, since when, and the peer.',
  examples: [
    ['vproxy status', 'The process, and a line for each channel'],
    ["vproxy status -o json | jq -r '.channels[].state'", 'For a script'],
  ],
  options: { verbose: { describe: 'Show each channel in full' } },
  meant: ['channels LABEL', 'status --name LABEL'],
  async open(args) {
    const control = await openControl(args);
    return () => control.status();
  },
  names: ({ channels }) => channels.map(({ label }) => label),
  lines: (status, view, args) => [
    ...formatProcess(status),
    '',
    ...describeChannels(status.channels, view, args.has('verbose')),
  ],
});

function describeChannels(
  channels: readonly ChannelStatus[],
  { isWide, width, paint }: ListView,
  isVerbose: boolean,
): string[] {
  if (!isVerbose || channels.length === 0) return formatChannels(channels, width, paint, isWide);
  return channels.flatMap((channel, index) => [...(index === 0 ? [] : ['']), ...formatChannel(channel, paint)]);
}

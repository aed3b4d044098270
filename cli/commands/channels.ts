/** `vproxy channels`, `vproxy channel remove` and `vproxy stream close`. */

import type { ControlClient } from '../../lib/control/client/client.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatCount } from '../../lib/util/units.js';
import { badArgument } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { readLabel } from '../command/labels.js';
import { listCommand } from '../command/list-command.js';
import { formatChannel, formatChannels } from '../ui/status.js';
import { showProgress } from '../ui/waiting-line.js';

export const list = listCommand<ChannelStatus | readonly ChannelStatus[]>({
  usage: 'channels [LABEL] [-o json|name|wide] [--watch]',
  about: 'Lists the channels; with LABEL, shows one in full: its peer, its session, and why earlier sessions ended.',
  examples: [
    ['vproxy channels', 'All channels'],
    ['vproxy channels vm1', 'One channel in full'],
    ['vproxy channels --watch', 'Live, until q'],
  ],
  operands: ['[LABEL]'],
  async open(args) {
    const [text] = args.operands;
    const label = text === undefined ? undefined : readLabel(text);
    const control = await openControl(args);
    return () => (label === undefined ? control.channels() : control.channel(label));
  },
  names: (channels) => [channels].flat().map(({ label }) => label),
  lines: (channels, { isWide, width, paint }) =>
    'label' in channels ? formatChannel(channels, paint) : formatChannels(channels, width, paint, isWide),
});

export const remove: Command = {
  usage: 'channel remove LABEL [--now]',
  about:
    'Removes a channel with its forwards. It accepts no new streams; the command ends when the open ones have ended, after 30 seconds at the latest.',
  examples: [
    ['vproxy channel remove vm1', 'Let its streams end first'],
    ['vproxy channel remove vm1 --now', 'Reset them'],
  ],
  options: { now: { describe: 'Reset the open streams' } },
  operands: ['LABEL'],
  async run(args) {
    const label = readLabel(args.operands[0] ?? '');
    const control = await openControl(args);
    if (args.has('now')) return control.removeChannel(label, { mode: 'now' });
    await showProgress(() => describeRest(control, label), control.removeChannel(label));
  },
};

async function describeRest(control: ControlClient, label: string): Promise<string> {
  const { session } = await control.channel(label);
  return `waiting for ${formatCount(session?.streams ?? 0, 'stream')} of ${label}`;
}

export const close: Command = {
  usage: 'stream close CHANNEL/ID',
  about: 'Resets a stream, named as in `vproxy streams`; the programs at both ends see their connections fail.',
  examples: [['vproxy stream close vm1/7', 'Stream 7 of vm1']],
  options: {},
  operands: ['CHANNEL/ID'],
  async run(args) {
    const [text = ''] = args.operands;
    const [, channel, id] = /^([a-z0-9._-]{1,64})\/(\d{1,10})$/.exec(text) ?? [];
    if (channel === undefined || id === undefined) {
      throw badArgument(`"${escapeText(text, 64)}" is not CHANNEL/ID, such as default/7`);
    }
    const control = await openControl(args);
    await control.closeStream(channel, Number(id));
  },
};

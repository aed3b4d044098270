/** `vproxy channels`: the channels as a table, or one of them in full. */
import type { Arguments } from '../command/arguments.js';
import { type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { formatChannel, formatChannels } from '../ui/channels.js';
import { outputWidth, print, printJson } from '../ui/print.js';

/** The command. */
export const command: Command = {
  usage: 'channels [LABEL] [--json]',
  about: 'Lists the channels; with LABEL, shows all of one: its peer, its session, and why earlier sessions ended.',
  options: JSON_OPTION,
  operands: ['[LABEL]'],
  run: showChannels,
};

async function showChannels(args: Arguments): Promise<void> {
  const control = await openControl(args);
  const [label] = args.operands;
  if (label === undefined) {
    const channels = await control.channels();
    if (args.has('json')) printJson(channels);
    else print(`${formatChannels(channels, outputWidth()).join('\n')}\n`);
  } else {
    const channel = await control.channel(label);
    if (args.has('json')) printJson(channel);
    else print(`${formatChannel(channel).join('\n')}\n`);
  }
}

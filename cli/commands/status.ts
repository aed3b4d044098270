/** `vproxy status`: the process and its channels. */
import type { Arguments } from '../command/arguments.js';
import { type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { formatChannels, formatProcess } from '../ui/channels.js';
import { outputWidth, print, printJson } from '../ui/print.js';

/** The command. */
export const command: Command = {
  usage: 'status [--json]',
  about: 'Shows the process, and for each of its channels what it does now, since when, and with whom.',
  options: JSON_OPTION,
  run: showStatus,
};

async function showStatus(args: Arguments): Promise<void> {
  const control = await openControl(args);
  const status = await control.status();
  if (args.has('json')) printJson(status);
  else print(`${[...formatProcess(status), '', ...formatChannels(status.channels, outputWidth())].join('\n')}\n`);
}

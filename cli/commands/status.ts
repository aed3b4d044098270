/** `vproxy status`: the process and its channels. */
import type { Arguments } from '../control/arguments.js';
import { formatChannels } from '../control/channel-table.js';
import type { Command } from '../control/command.js';
import { JSON_OPTION } from '../control/common-options.js';
import { formatProcess } from '../control/format-process.js';
import { openControl } from '../control/open-control.js';
import { outputWidth, print, printJson } from '../control/print.js';

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

/** `vproxy reload`: reads the configuration file again. */
import type { ChannelChanges } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import { type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { print, printJson } from '../ui/print.js';

/** The command. */
export const command: Command = {
  usage: 'reload [--json]',
  about:
    'Lets the process read its configuration file again, and shows what that has changed. What is the same keeps its streams; a file that is not valid changes nothing.',
  options: JSON_OPTION,
  run: reload,
};

const TITLES: Readonly<Record<keyof ChannelChanges, string>> = {
  addedChannels: 'channel added',
  removedChannels: 'channel removed',
  replacedChannels: 'channel replaced',
  addedForwards: 'forward added',
  removedForwards: 'forward removed',
  changedPolicies: 'rule changed',
};

async function reload(args: Arguments): Promise<void> {
  const control = await openControl(args);
  const changes = await control.reload();
  if (args.has('json')) {
    printJson(changes);
    return;
  }
  const lines = (Object.keys(TITLES) as (keyof ChannelChanges)[]).flatMap((key) =>
    changes[key].map((what) => `${TITLES[key]}: ${escapeText(what)}\n`),
  );
  print(lines.length === 0 ? 'nothing has changed\n' : lines.join(''));
}

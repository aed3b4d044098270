/** `vproxy channel remove`: removes a channel with its forwards. */
import type { ControlClient } from '../../lib/control/client/client.js';
import type { Arguments } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { formatCount } from '../ui/print.js';
import { showProgress } from '../ui/progress.js';

/** The command. */
export const command: Command = {
  usage: 'channel remove LABEL [--now]',
  about:
    'Removes a channel with its forwards. No streams are opened any more; the command ends when those that are open have ended, at the latest after 30 seconds.',
  options: { now: { describe: 'Reset the streams that are open' } },
  operands: ['LABEL'],
  run: removeChannel,
};

async function removeChannel(args: Arguments): Promise<void> {
  const [label = ''] = args.operands;
  const control = await openControl(args);
  if (args.has('now')) return control.removeChannel(label, { mode: 'now' });
  await showProgress(() => describeRest(control, label), control.removeChannel(label));
}

async function describeRest(control: ControlClient, label: string): Promise<string> {
  const { session } = await control.channel(label);
  return `waiting for ${formatCount(session?.streams ?? 0, 'stream')} of ${label}`;
}

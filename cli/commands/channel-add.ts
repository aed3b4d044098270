/** `vproxy channel add`: adds a channel. */

import { cutLabel } from '../../lib/util/labels.js';
import type { Arguments } from '../command/arguments.js';
import { type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { ADDITION_OPTIONS, readAddition } from '../run/addition-options.js';
import { describeWait } from '../ui/channels.js';
import { print, printJson } from '../ui/print.js';

export const command: Command = {
  usage: 'channel add [LABEL=]CHANNEL [-o FORWARD]… [-i FORWARD]… [--json]',
  about: 'Adds a channel with its forwards, as -c, -o and -i of the command line do, and prints its state.',
  options: {
    ...ADDITION_OPTIONS,
    ...JSON_OPTION,
  },
  operands: ['CHANNEL'],
  run: addChannel,
};

async function addChannel(args: Arguments): Promise<void> {
  const [text = ''] = args.operands;
  const { label, rest: address } = cutLabel(text, '=') ?? { label: undefined, rest: text };
  const settings = readAddition((name) => args.texts(name));
  const control = await openControl(args);
  const added = await control.addChannel({ ...settings, address, ...(label === undefined ? {} : { label }) });
  if (args.has('json')) {
    printJson(added);
    return;
  }
  const wait = describeWait(added);
  print(`${added.label}: ${added.state}${wait === null ? '' : `: ${wait}`}\n`);
}

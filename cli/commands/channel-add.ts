/** `vproxy channel add`: adds a channel. */

import { resolve } from 'node:path';
import { cutLabel } from '../../lib/util/labels.js';
import { type Arguments, type Command, JSON_OPTION } from '../command/arguments.js';
import { openControl } from '../command/control-client.js';
import { describeWait } from '../ui/channels.js';
import { print, printJson } from '../ui/print.js';

/** The command. */
export const command: Command = {
  usage: 'channel add [LABEL=]CHANNEL [-o FORWARD]… [-i FORWARD]… [--json]',
  about: 'Adds a channel with its forwards, as -c, -o and -i of the command line do, and prints its state.',
  options: {
    outgoing: { short: 'o', value: 'FORWARD', isRepeatable: true, describe: 'Listen here for a service of its peer' },
    incoming: { short: 'i', value: 'FORWARD', isRepeatable: true, describe: 'Offer a service to its peer' },
    'own-name': { value: 'TEXT', describe: 'Name of this side, told to its peer' },
    wait: { value: 'SECONDS', describe: 'For how long a local connection waits for a session' },
    'dead-after': { value: 'SECONDS', describe: 'Silence that ends a session; 0: never' },
    insecure: { describe: 'Let tcp-listen listen on addresses that other machines reach' },
    key: { value: 'FILE', isRepeatable: true, describe: 'A file with a key that its peer must have as well' },
    ...JSON_OPTION,
  },
  operands: ['CHANNEL'],
  run: addChannel,
};

const MAX_SECONDS = 86_400;

async function addChannel(args: Arguments): Promise<void> {
  const [text = ''] = args.operands;
  const { label, rest: address } = cutLabel(text, '=') ?? { label: undefined, rest: text };
  const name = args.text('own-name');
  const waitS = args.number('wait', 'seconds', 0, MAX_SECONDS);
  const deadAfterS = args.number('dead-after', 'seconds (0: never)', 0, MAX_SECONDS);
  // The process may run in another folder.
  const keys = args.texts('key').map((path) => resolve(path));
  const control = await openControl(args);
  const added = await control.addChannel({
    address,
    outgoing: args.texts('outgoing'),
    incoming: args.texts('incoming'),
    ...(label === undefined ? {} : { label }),
    ...(name === undefined ? {} : { name }),
    ...(waitS === undefined ? {} : { waitS }),
    ...(deadAfterS === undefined ? {} : { deadAfterS }),
    ...(args.has('insecure') ? { insecure: true } : {}),
    ...(keys.length === 0 ? {} : { keys }),
  });
  if (args.has('json')) {
    printJson(added);
    return;
  }
  const wait = describeWait(added);
  print(`${added.label}: ${added.state}${wait === null ? '' : `: ${wait}`}\n`);
}

/** `vproxy forward add`: adds a forward. */
import { VproxyError } from '../../lib/errors.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import { CHANNEL_OPTION, type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { splitLabel } from '../command/find-process.js';
import { describeForward } from '../ui/channels.js';
import { print, printJson } from '../ui/print.js';

/** The command. */
export const command: Command = {
  usage: 'forward add -o|-i [LABEL/]FORWARD [--channel LABEL] [--json]',
  about:
    'Adds a forward, as -o and -i of the command line do, and prints it with the port that was picked where 0 was asked for. An address that is taken is an error, and changes nothing.',
  options: {
    outgoing: {
      short: 'o',
      value: 'FORWARD',
      describe: 'Listen here for a service of the peer, such as ssh:127.0.0.1:0',
    },
    incoming: { short: 'i', value: 'FORWARD', describe: 'Offer a service to the peer, such as web:127.0.0.1:8080' },
    ...CHANNEL_OPTION,
    ...JSON_OPTION,
  },
  run: addForward,
};

async function addForward(args: Arguments): Promise<void> {
  const outgoing = args.text('outgoing');
  const text = outgoing ?? args.text('incoming');
  if (text === undefined)
    throw new VproxyError('bad-argument', '-o or -i is missing; expected -o FORWARD or -i FORWARD');
  if (outgoing !== undefined && args.text('incoming') !== undefined) {
    throw new VproxyError('bad-argument', '-i: cannot stand with -o; one forward is added at a time');
  }
  const { label, rest } = splitLabel(text);
  const channel = args.text('channel');
  if (label !== null && channel !== undefined && label !== channel) {
    throw new VproxyError(
      'bad-argument',
      `--channel: ${escapeText(channel, 64)} is not the channel of ${escapeText(text)}`,
    );
  }
  const control = await openControl(args);
  const added = await control.addForward({
    direction: outgoing === undefined ? 'incoming' : 'outgoing',
    spec: rest,
    channel: channel ?? label ?? undefined,
  });
  if (args.has('json')) printJson(added);
  else print(`${describeForward(added)}\n`);
}

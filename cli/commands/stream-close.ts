/** `vproxy stream close`: resets a stream. */
import { VproxyError } from '../../lib/errors.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { openControl } from '../command/control-client.js';

/** The command. */
export const command: Command = {
  usage: 'stream close CHANNEL/ID',
  about: 'Resets a stream, which `vproxy streams` names; the programs at both ends see their connections fail.',
  options: {},
  operands: ['CHANNEL/ID'],
  run: closeStream,
};

async function closeStream(args: Arguments): Promise<void> {
  const [text = ''] = args.operands;
  const [, channel, id] = /^([a-z0-9._-]{1,64})\/(\d{1,10})$/.exec(text) ?? [];
  if (channel === undefined || id === undefined) {
    throw new VproxyError('bad-argument', `"${escapeText(text, 64)}" is not CHANNEL/ID, such as default/7`);
  }
  const control = await openControl(args);
  await control.closeStream(channel, Number(id));
}

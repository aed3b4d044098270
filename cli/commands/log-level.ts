/** `vproxy log-level`: shows or sets what the process logs. */
import { VproxyError } from '../../lib/errors.js';
import { LOG_LEVELS } from '../../lib/events.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import { type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { print, printJson } from '../ui/print.js';

/** The command. */
export const command: Command = {
  usage: 'log-level [error|warn|info|debug] [--json]',
  about: 'Sets the least important level that the process logs, until it ends; without a level, shows it.',
  options: JSON_OPTION,
  operands: ['[error|warn|info|debug]'],
  run: setLevel,
};

async function setLevel(args: Arguments): Promise<void> {
  const [text] = args.operands;
  const wanted = LOG_LEVELS.find((level) => level === text);
  if (text !== undefined && wanted === undefined) {
    throw new VproxyError('bad-argument', `"${escapeText(text, 64)}" is no level; expected ${LOG_LEVELS.join(', ')}`);
  }
  const control = await openControl(args);
  const level =
    wanted === undefined ? (await control.status()).process.logLevel : (await control.logLevel(wanted)).level;
  if (args.has('json')) printJson({ level });
  else print(`${level}\n`);
}

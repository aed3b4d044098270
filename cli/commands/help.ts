/** `vproxy help`: shows the help of the program, or of a command. */
import type { Command } from '../command/command.js';

export const command: Command = {
  usage: 'help [COMMAND]',
  about: 'Shows the same as vproxy COMMAND --help; without COMMAND all options, kinds of channels and commands.',
  examples: [
    ['vproxy help exec', 'The options of one command, and examples'],
    ['vproxy help forward', 'The commands that begin with this word'],
  ],
  isLocal: true,
  options: {},
  operands: ['[COMMAND…]'],
  run: ({ operands }, runOther) => runOther([...operands, '--help']),
};

/** `vproxy help`: the help of the program, or of a command. */
import type { Command } from '../command/command.js';

export const command: Command = {
  usage: 'help [COMMAND]',
  about: 'Shows what vproxy COMMAND --help does; without COMMAND all options, kinds of channels and commands.',
  examples: [
    ['vproxy help exec', 'The options of one command, and examples'],
    ['vproxy help forward', 'The commands that begin with that word'],
  ],
  isLocal: true,
  options: {},
  operands: ['[COMMAND…]'],
  run: ({ operands }, runOther) => runOther([...operands, '--help']),
};

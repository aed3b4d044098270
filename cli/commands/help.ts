/** `vproxy help`: shows the help of the program or of a command, or the kinds of channels. */
import type { Command } from '../command/command.js';
import { EXIT_OK } from '../exit.js';

/** The operand for the kinds of channels; the command of that name has its help in `vproxy channels --help`. */
const CHANNELS = 'channels';

export const command: Command = {
  usage: 'help [COMMAND | channels]',
  about:
    'Shows the same as vproxy COMMAND --help, or the kinds of channels; without an argument, all options and commands.',
  examples: [
    ['vproxy help exec', 'The options of one command, and examples'],
    ['vproxy help forward', 'The commands that begin with this word'],
    ['vproxy help channels', 'The kinds of channels'],
  ],
  isLocal: true,
  options: {},
  operands: ['[COMMAND…]'],
  run: ({ operands }, runOther) => (operands.join() === CHANNELS ? showKinds() : runOther([...operands, '--help'])),
};

async function showKinds(): Promise<number> {
  const [{ formatKindHelp, helpWidth }, { outputWidth, print }, { KIND_ROWS }] = await Promise.all([
    import('../command/help.js'),
    import('../ui/print.js'),
    import('../../lib/channel/kinds.js'),
  ]);
  print(formatKindHelp(KIND_ROWS, helpWidth(outputWidth())));
  return EXIT_OK;
}

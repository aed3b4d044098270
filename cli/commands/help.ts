/** `vproxy help`: shows the help of the program or of a command, or the kinds of channels. `vproxy version`: shows the versions. */
import type { Command } from '../command/command.js';

/** The operand for the kinds of channels; the command of that name has its help in `vproxy channels --help`. */
const CHANNELS = 'channels';

export const help: Command = {
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
  const [{ formatKindHelp, printHelp }, { KIND_ROWS }] = await Promise.all([
    import('../command/help.js'),
    import('../../lib/channel/kinds.js'),
  ]);
  return printHelp((width) => formatKindHelp(KIND_ROWS, width));
}

export const version: Command = {
  usage: 'version',
  about: 'Prints the versions of the program, the protocol and Node, as vproxy --version does.',
  examples: [['vproxy version', 'The versions of this program']],
  isLocal: true,
  options: {},
  async run() {
    const { printVersion } = await import('../package-info.js');
    printVersion();
  },
};

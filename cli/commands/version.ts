/** `vproxy version`: the same as `vproxy --version`. */
import type { Command } from '../command/command.js';

export const command: Command = {
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

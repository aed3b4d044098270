/** `vproxy -c CHANNEL …`: the command that runs a proxy. */
import type { Command } from '../command/command.js';
import { RUN_OPTIONS } from '../run/options.js';

/** The command without a name. */
export const run: Command = {
  usage: '-c CHANNEL [-o FORWARD]… [-i FORWARD]… [options]',
  about: 'Carries forwards, and storage calls, over channels until it is told to end.',
  isLocal: true,
  options: { ...RUN_OPTIONS, version: { describe: 'Show versions' } },
  async run(args) {
    // What runs a proxy is most of the program: the help need not wait for it.
    const [{ parseRunFlags }, { runFlags }] = await Promise.all([
      import('../run/run-options.js'),
      import('../run/run-proxy.js'),
    ]);
    process.exit(await runFlags(parseRunFlags((name) => args.texts(name))));
  },
};

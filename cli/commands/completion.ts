/** `vproxy completion`: prints the completion script of a shell, or names of a running vproxy. */
import { suggestOrList } from '../../lib/util/closest-word.js';
import { escapeText } from '../../lib/util/escape.js';
import { type Arguments, badArgument } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { SCRIPTS } from '../completion/scripts.js';
import { LIVE_NAMES, liveNames } from '../completion/values.js';
import { EXIT_OK } from '../exit.js';
import { print } from '../ui/print.js';

export const command: Command = {
  usage: 'completion bash|zsh|fish',
  about:
    'Prints a script for a shell that completes commands, options and values of vproxy, and the names of channels, services, forwards and streams of a running vproxy.',
  examples: [
    ['source <(vproxy completion bash)', 'In this shell only'],
    ['vproxy completion zsh > ~/.zfunc/_vproxy', 'For zsh, from its next start'],
  ],
  options: {
    names: {
      value: LIVE_NAMES.join('|'),
      describe: 'Print such names of a running vproxy instead; nothing if none answers',
    },
    socket: { value: 'PATH', describe: 'Control socket of the process for --names' },
    name: { value: 'NAME', describe: 'Name or PID of the process for --names', offers: 'process' },
  },
  isLocal: true,
  operands: ['[bash|zsh|fish]'],
  async run(args) {
    const names = args.text('names');
    if (names !== undefined) return printNames(args, names);
    const [shell = ''] = args.operands;
    const script = new Map(Object.entries(SCRIPTS)).get(shell);
    if (script === undefined) {
      const given = shell === '' ? 'missing shell' : `unknown shell "${escapeText(shell, 64)}"`;
      throw badArgument(`completion: ${given}; ${suggestOrList(shell, Object.keys(SCRIPTS))}`);
    }
    print(script);
  },
};

async function printNames(args: Arguments, text: string): Promise<void> {
  const sort = LIVE_NAMES.find((one) => one === text);
  if (sort === undefined) {
    throw badArgument(`--names: unknown list "${escapeText(text, 64)}"; ${suggestOrList(text, LIVE_NAMES)}`);
  }
  const found = await liveNames(sort, { socket: args.text('socket'), name: args.text('name') });
  print(found.map(({ name, summary }) => `${name}\t${summary}\n`).join(''));
  // Do not wait for a process that has not answered.
  await new Promise((resolve) => process.stdout.write('', resolve));
  process.exit(EXIT_OK);
}

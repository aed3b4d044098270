/** `vproxy completion`: prints what a shell needs to complete command lines of vproxy, and the names that it then asks for. */
import { VproxyError } from '../../lib/errors.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Arguments, Command } from '../command/arguments.js';
import { LIVE_NAMES } from '../completion/value-sort.js';
import { EXIT_OK } from '../exit.js';
import { print } from '../ui/print.js';

const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** Whoever presses a key does not wait for a process that does not answer: in milliseconds. */
const ANSWER_MS = 300;

/** The command. */
export const command: Command = {
  usage: `completion ${SHELLS.join('|')}`,
  about:
    'Prints a script for a shell, which completes commands, options and values of vproxy, and the names of channels, services, forwards and streams of a vproxy that runs.',
  options: {
    names: {
      value: LIVE_NAMES.join('|'),
      describe:
        'Print such names of a vproxy that runs instead, as the script asks for them; nothing where none answers',
    },
    socket: { value: 'PATH', describe: 'Control socket of the process for --names' },
    name: { value: 'NAME', describe: 'Name, or number, of the process for --names' },
  },
  isLocal: true,
  operands: [`[${SHELLS.join('|')}]`],
  run: complete,
};

async function complete(args: Arguments): Promise<void> {
  const names = args.text('names');
  if (names !== undefined) return printNames(args, names);
  const [shell = ''] = args.operands;
  const known = SHELLS.find((one) => one === shell);
  if (known === undefined) {
    const given = shell === '' ? 'the shell is missing' : `"${escapeText(shell, 64)}" is no shell that it knows`;
    throw new VproxyError('bad-argument', `completion: ${given}; expected ${SHELLS.join(', ')}`);
  }
  const { formatCompletion } = await import('../completion/format-completion.js');
  print(await formatCompletion(known));
}

/** What cannot be known is not offered: there is nobody to read an error. */
async function printNames(args: Arguments, text: string): Promise<void> {
  const sort = LIVE_NAMES.find((one) => one === text);
  if (sort === undefined) {
    throw new VproxyError('bad-argument', `--names: "${escapeText(text, 64)}" is none of ${LIVE_NAMES.join(', ')}`);
  }
  const [{ openControl }, { liveNames }] = await Promise.all([
    import('../command/control-client.js'),
    import('../completion/live-names.js'),
  ]);
  setTimeout(() => process.exit(EXIT_OK), ANSWER_MS).unref();
  const found = await openControl(args)
    .then((control) => liveNames(control, sort))
    .catch(() => []);
  print(found.map(({ name, summary }) => `${name}\t${summary}\n`).join(''));
}

/** `vproxy qemu-args`: a port as QEMU's arguments. */
import { VproxyError } from '../../lib/errors.js';
import { escapeText, formatJson } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { isDialed, PORT_OPTIONS, parsePort, printPort } from '../hypervisor/port.js';
import { askQemuVersion, describeQemuPort, formatQemuArguments, parseQemuVersion } from '../hypervisor/qemu.js';

/** The command. */
export const command: Command = {
  usage: 'qemu-args [--name NAME] [--mode bind|connect] (--path PATH | --tcp [HOST:]PORT | --pipe PATH) [--json]',
  about:
    "Prints the arguments that give QEMU a port of vproxy's, in one line, for qemu-system-x86_64 $(vproxy qemu-args …). The output of several calls with different names can stand together.",
  options: {
    ...PORT_OPTIONS,
    json: { describe: 'Print the arguments as an array of strings, as JSON' },
    'qemu-version': {
      value: 'VERSION',
      describe: "QEMU's version, on which --mode connect depends [default: this machine's]",
    },
  },
  isLocal: true,
  run: printArguments,
};

async function printArguments(args: Arguments): Promise<void> {
  const port = parsePort(args, true);
  const text = args.text('qemu-version');
  const given = text === undefined ? null : parseQemuVersion(text);
  const version = given ?? (isDialed(port) ? await askQemuVersion() : null);
  const words = formatQemuArguments(describeQemuPort(port, version));
  printPort(port, args.has('json') ? `${formatJson(words, 2)}\n` : `${joinWords(words)}\n`);
}

/** Quotes would not help: a shell splits what a command has printed, and expands patterns in it, but removes no quotes. */
function joinWords(words: readonly string[]): string {
  const split = words.find((word) => /[\s*?[\]\\]/.test(word));
  if (split === undefined) return words.join(' ');
  throw new VproxyError(
    'bad-argument',
    `"${escapeText(split, 200)}": a shell would split or expand that in $(…), whatever its quotes; use a plainer path, or --json`,
  );
}

/** The command line of `npm run vm`. */

/** What a run of `npm run vm` does. */
export interface VmOptions {
  /** To run in the VM; none: the VM stays until it is interrupted. */
  readonly command: readonly string[];
  /** The path of a kernel, or undefined to find one. */
  readonly kernel: string | undefined;
  readonly isQuiet: boolean;
  readonly wantsHelp: boolean;
}

export const HELP = `\
Usage: npm run vm -- [--kernel PATH] [--quiet] [[--] COMMAND [ARG…]]

Boots a small Linux with vproxy-guest under QEMU, without root, network or disk,
and prints what to do with it. Ctrl-C ends it. With COMMAND, it runs that in the
VM, with this command's input and output, and ends with its status.

Options:
  --kernel PATH  The kernel, …/boot/vmlinuz-VERSION with …/lib/modules/VERSION
                 [default: $VPROXY_VM_KERNEL, else the newest in /boot that can
                 be read, else that of the Debian package, which it downloads]
  --quiet        Print errors only, and what the command prints
  -h, --help     Show this help

VPROXY_VM_ACCEL=tcg does without KVM. What can be kept is in $VPROXY_VM_CACHE,
by default in ~/.cache/vproxy.

Exit status: that of COMMAND; 0 after Ctrl-C, SIGTERM or SIGHUP, with COMMAND
130, 143 or 129; 64 for an invalid argument; 69 if something is not installed;
125 if the VM does not boot, or ends by itself.

In a script, npm run --silent vm -- --quiet -- COMMAND prints nothing of its own.
`;

/** Parses the words; options end at the first word that is not one. Throws an error whose message says what is wrong. */
export function parseVmOptions(words: readonly string[], environment: NodeJS.ProcessEnv = {}): VmOptions {
  const options = { kernel: environment['VPROXY_VM_KERNEL'] || undefined, isQuiet: false, wantsHelp: false };
  const rest = [...words];
  while (rest[0]?.startsWith('-') === true) {
    const word = rest.shift() ?? '';
    if (word === '--') break;
    const [name, value] = word.startsWith('--kernel=') ? ['--kernel', word.slice('--kernel='.length)] : [word];
    if (name === '--kernel') {
      options.kernel = value ?? rest.shift();
      if (!options.kernel) throw new Error('--kernel: needs a path');
    } else if (name === '--quiet') options.isQuiet = true;
    else if (name === '--help' || name === '-h') options.wantsHelp = true;
    else throw new Error(`${JSON.stringify(word)}: unknown option; --help lists them`);
  }
  return { ...options, command: rest };
}

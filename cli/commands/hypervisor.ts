/** `vproxy libvirt-xml`, `qemu-args` and `pipe-create`: what a hypervisor needs for a port of vproxy. */

import { createFifos, type FifoOptions } from '../../lib/channel/pipe-open.js';
import { VproxyError } from '../../lib/errors.js';
import { escapeText, formatJson } from '../../lib/util/escape.js';
import { type Arguments, badArgument } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { formatChannelXml, formatCommandlineXml } from '../hypervisor/libvirt-xml.js';
import { isDialed, PORT_OPTIONS, parsePort, printPort } from '../hypervisor/port.js';
import { askQemuVersion, describeQemuPort, formatQemuArguments, parseQemuVersion } from '../hypervisor/qemu.js';
import { print } from '../ui/print.js';

export const libvirtXml: Command = {
  usage:
    'libvirt-xml [--name NAME] [--mode bind|connect] [--path PATH | --tcp [HOST:]PORT | --pipe PATH] [--commandline]',
  about:
    "Prints the <channel> element of a port for vproxy, for <devices> in the XML of a libvirt domain. Without --path libvirt picks, labels and removes the socket; the host's vproxy finds it with -c libvirt:DOMAIN.",
  examples: [
    ['vproxy libvirt-xml', 'A port whose socket libvirt picks'],
    ['vproxy libvirt-xml > port.xml && virsh attach-device vm1 port.xml --live', 'Attach it to a running domain'],
  ],
  options: {
    ...PORT_OPTIONS,
    commandline: {
      describe: "Print a <qemu:commandline> element instead, with QEMU's own arguments; put it last in <domain>",
    },
    'qemu-version': {
      value: 'VERSION',
      describe: "With --commandline: QEMU's version, on which its arguments depend [default: this machine's]",
    },
  },
  isLocal: true,
  async run(args) {
    const hasCommandline = args.has('commandline');
    const port = parsePort(args, hasCommandline);
    const versionText = args.text('qemu-version');
    if (!hasCommandline) {
      if (versionText !== undefined) throw badArgument('--qemu-version: only allowed with --commandline');
      printPort(port, formatChannelXml(port));
      return;
    }
    const version = versionText === undefined ? await askQemuVersion() : parseQemuVersion(versionText);
    printPort(port, formatCommandlineXml(describeQemuPort(port, version), version));
  },
};

export const qemuArgs: Command = {
  usage:
    'qemu-args [--name NAME] [--mode bind|connect] (--path PATH | --tcp [HOST:]PORT | --pipe PATH) [--no-ioeventfd] [--json]',
  about:
    'Prints the arguments that give QEMU a port for vproxy, in one line, for qemu-system-x86_64 $(vproxy qemu-args …). The output of several calls with different names can be combined.',
  examples: [['qemu-system-x86_64 -nographic $(vproxy qemu-args --path /run/vm1.sock)', 'Boot a VM with a port']],
  options: {
    ...PORT_OPTIONS,
    'no-ioeventfd': { describe: 'Add ioeventfd=off to the controller, for a QEMU whose port loses wake-ups' },
    json: { describe: 'Print the arguments as a JSON array of strings' },
    'qemu-version': {
      value: 'VERSION',
      describe: "QEMU's version, on which --mode connect depends [default: this machine's]",
    },
  },
  isLocal: true,
  async run(args) {
    const port = parsePort(args, true);
    const text = args.text('qemu-version');
    const given = text === undefined ? null : parseQemuVersion(text);
    const version = given ?? (isDialed(port) ? await askQemuVersion() : null);
    const words = formatQemuArguments(describeQemuPort(port, version, !args.has('no-ioeventfd')));
    printPort(port, args.has('json') ? `${formatJson(words, 2)}\n` : `${joinWords(words)}\n`);
  },
};

/** Quotes do not help: a shell splits the output of a command and expands patterns in it, but removes no quotes. */
function joinWords(words: readonly string[]): string {
  const split = words.find((word) => /[\s*?[\]\\]/.test(word));
  if (split === undefined) return words.join(' ');
  throw badArgument(
    `"${escapeText(split, 200)}": a shell splits or expands this in $(…), even if quoted; use a plainer path, or --json`,
  );
}

const DEFAULT_MODE = '0660';

export const pipeCreate: Command = {
  usage: 'pipe-create /PATH [--mode MODE] [--owner USER[:GROUP]]',
  about:
    "Creates the FIFOs /PATH.in and /PATH.out of QEMU's pipe chardev, and /PATH, and prints the lines for tmpfiles.d(5) that create them at boot. PATH is absolute.",
  examples: [['vproxy pipe-create /run/vm1.pipe > /etc/tmpfiles.d/vm1.conf', 'Create them now, and after each reboot']],
  options: {
    mode: { value: 'MODE', describe: `Their permissions, in octal [default: ${DEFAULT_MODE}]` },
    owner: { value: 'USER[:GROUP]', describe: 'Their owner, such as the user that QEMU runs as' },
  },
  isLocal: true,
  operands: ['/PATH'],
  async run(args) {
    const { path, options } = parsePipe(args);
    const fifos = await createFifos(path, options);
    const [user, group] = options.owner?.split(':') ?? [];
    for (const { path: file, isOld, uid, gid } of fifos) {
      process.stderr.write(`vproxy: ${isOld ? 'kept' : 'made'} ${escapeText(file)}\n`);
      print(`${formatFifoLine(file, options.mode, user ?? String(uid), group ?? String(gid))}\n`);
    }
  },
};

/**
 * The line of tmpfiles.d(5) that creates a FIFO at boot; `mode` is its permission bits. An existing FIFO is kept, anything
 * else is replaced.
 */
export function formatFifoLine(path: string, mode: number, user: string, group: string): string {
  return `p+ ${quotePath(path)} ${mode.toString(8).padStart(4, '0')} ${user} ${group} - -`;
}

/** Quotes a path for tmpfiles.d(5), where a percent sign begins a specifier and white space ends a field. */
function quotePath(path: string): string {
  const escaped = path.replace(/[\\"]/g, '\\$&').replaceAll('%', '%%').replaceAll('\n', '\\n');
  return escaped === path && !/[\s']/.test(path) ? path : `"${escaped}"`;
}

function parsePipe(args: Arguments): { path: string; options: FifoOptions } {
  const [path = ''] = args.operands;
  const mode = args.text('mode') ?? DEFAULT_MODE;
  const owner = args.text('owner');
  if (!/^\/(.*[^/])?$/s.test(path) || path === '/' || path.includes('\0')) {
    throw bad('pipe-create', path, 'is not the absolute path of a file');
  }
  if (!/^0?[0-7]{3}$/.test(mode)) throw bad('--mode', mode, 'is not an octal mode up to 0777, such as 0660');
  if (owner !== undefined && !/^[\w.][\w.@$-]*(:[\w.][\w.@$-]*)?$/.test(owner)) {
    throw bad('--owner', owner, 'is not USER or USER:GROUP');
  }
  return { path, options: { mode: Number.parseInt(mode, 8), owner: owner ?? null } };
}

function bad(option: string, value: string, what: string): VproxyError {
  return badArgument(`${option}: "${escapeText(value, 64)}" ${what}`);
}

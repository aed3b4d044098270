/** `vproxy libvirt-xml`: a port as libvirt's domains have it. */

import { VproxyError } from '../../lib/errors.js';
import type { Arguments } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { formatChannelXml, formatCommandlineXml } from '../hypervisor/libvirt-xml.js';
import { PORT_OPTIONS, parsePort, printPort } from '../hypervisor/port.js';
import { askQemuVersion, describeQemuPort, parseQemuVersion } from '../hypervisor/qemu.js';

/** The command. */
export const command: Command = {
  usage:
    'libvirt-xml [--name NAME] [--mode bind|connect] [--path PATH | --tcp [HOST:]PORT | --pipe PATH] [--commandline]',
  about:
    "Prints the <channel> element for a port of vproxy's, for <devices> in the XML of a libvirt domain. Without --path libvirt picks, labels and removes the socket; the host's vproxy finds it with -c libvirt:DOMAIN.",
  options: {
    ...PORT_OPTIONS,
    commandline: {
      describe: "Print a <qemu:commandline> element instead, with QEMU's own arguments; its place is last in <domain>",
    },
    'qemu-version': {
      value: 'VERSION',
      describe: "With --commandline: QEMU's version, which its arguments depend on [default: this machine's]",
    },
  },
  isLocal: true,
  run: printXml,
};

async function printXml(args: Arguments): Promise<void> {
  const hasCommandline = args.has('commandline');
  const port = parsePort(args, hasCommandline);
  const versionText = args.text('qemu-version');
  if (!hasCommandline) {
    if (versionText !== undefined)
      throw new VproxyError('bad-argument', '--qemu-version: only --commandline depends on it');
    printPort(port, formatChannelXml(port));
    return;
  }
  const version = versionText === undefined ? await askQemuVersion() : parseQemuVersion(versionText);
  printPort(port, formatCommandlineXml(describeQemuPort(port, version), version));
}

/** How the commands that write a port down print it. */
import { escapeText } from '../../lib/util/escape.js';
import { print } from '../control/print.js';
import type { HypervisorPort } from './hypervisor-port.js';
import { guestChannel, hostChannel } from './vproxy-channels.js';

/** Prints a text; a person, at a terminal, is also told which channels of vproxy belong to it. */
export function printPort(port: HypervisorPort, text: string): void {
  print(text);
  if (!process.stdout.isTTY) return;
  const channels = `at the host -c ${quote(hostChannel(port))}, in the guest -c ${quote(guestChannel(port))}`;
  process.stderr.write(`vproxy: ${channels}\n`);
}

/** For the shell, where it needs that. */
const quote = (text: string): string => {
  const shown = escapeText(text, 512);
  return /^[\w@%+=:,./[\]-]+$/.test(shown) ? shown : `'${shown.replaceAll("'", "'\\''")}'`;
};

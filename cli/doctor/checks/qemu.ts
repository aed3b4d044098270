/** The QEMUs of this machine, by which a host is known. */
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../finding.js';
import type { Machine } from '../machine.js';
import { formatHolder } from '../process-list.js';

/** So many of them are listed. */
const MAX_LISTED = 32;

/** A line for each, with the sockets of its chardevs. */
export async function checkQemu(machine: Machine): Promise<Finding[]> {
  const processes = await machine.processes();
  return processes.pids
    .map((pid) => processes.describe(pid))
    .filter(({ program }) => /^(qemu-system|qemu-kvm)/.test(program))
    .slice(0, MAX_LISTED)
    .map((holder) => {
      const { name, sockets } = readArguments(processes.commandLine(holder.pid));
      const vm = name === null ? '' : ` is the VM ${escapeText(name, 80)}`;
      const places = sockets.length === 0 ? '' : `; sockets: ${sockets.map((path) => escapeText(path)).join(', ')}`;
      return finding('qemu-found', `${formatHolder(holder)}${vm}${places}`);
    });
}

/** `-name guest=vm1,…` and the paths of `-chardev socket,path=…`; libvirt hands sockets over as descriptors, which have none. */
function readArguments(words: readonly string[]): {
  readonly name: string | null;
  readonly sockets: readonly string[];
} {
  const valuesOf = (option: string): string[] =>
    words.flatMap((word, index) => (words[index - 1] === option ? [word] : []));
  const [name] = valuesOf('-name').map((value) => /^(?:guest=)?([^,]+)/.exec(value)?.[1] ?? null);
  const sockets = valuesOf('-chardev').flatMap((value) => {
    const [, path] = /^(?:socket|pipe),(?:.*,)?path=([^,]+)/.exec(value) ?? [];
    return path === undefined ? [] : [path];
  });
  return { name: name ?? null, sockets };
}

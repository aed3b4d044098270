/** The machine: what vproxy runs on, what the doctor can see, the limits of a process, and the running QEMUs. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import { kernelOf, type Machine } from '../machine.js';
import { formatHolder } from '../process-list.js';

export function checkMachine({ options }: Machine): Finding[] {
  const { userId, version, proc } = options;
  const facts = `vproxy ${version}, Node ${process.versions.node}, ${kernelOf()}, checked as ${userId === 0 ? 'root' : `user ${userId}`}`;
  return [
    finding('machine-facts', facts),
    ...(existsSync(join(proc, 'self')) ? [] : [finding('proc-missing', `${proc}/self does not exist`)]),
    ...(userId === 0 ? [] : [finding('not-root', 'only the open files of this user’s own processes are visible')]),
  ];
}

/** Channels of one process. */
interface FilesSubject {
  /** The process; null for one that would be started here. */
  readonly pid: number | null;
  /** The limit of streams of each of its channels. */
  readonly streams: readonly number[];
}

/** Allowance for listeners, channels and a log. */
const OTHER_FILES = 64;

/** Warns if the limit of open files is too low for the streams that the channels allow. */
export function checkFiles(machine: Machine, { pid, streams }: FilesSubject): Finding[] {
  const limits = machine.readProc(`${pid ?? 'self'}/limits`);
  const limit = Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  const wanted = streams.reduce((sum, count) => sum + count, OTHER_FILES);
  if (wanted <= limit) return [];
  const channels = streams.length === 1 ? 'the channel' : `${streams.length} channels`;
  const message = `limit of open files: ${limit}; ${channels} may have ${wanted - OTHER_FILES} streams`;
  return [finding('files-low', message, { COUNT: String(wanted) })];
}

/** Checks what terminals of commands need, on a side that lets its peer run commands. */
export async function checkTerminals({ options }: Machine): Promise<Finding[]> {
  return (await options.hasKoffi()) ? [] : [finding('koffi-missing', 'koffi cannot be loaded')];
}

const MAX_LISTED_QEMUS = 32;

/** Lists the QEMUs of this machine, which identify it as a host, with the sockets of their chardevs. */
export async function checkQemu(machine: Machine): Promise<Finding[]> {
  const processes = await machine.processes();
  return processes.pids
    .map((pid) => processes.describe(pid))
    .filter(({ program }) => /^(qemu-system|qemu-kvm)/.test(program))
    .slice(0, MAX_LISTED_QEMUS)
    .map((holder) => {
      const { name, sockets } = readArguments(processes.commandLine(holder.pid));
      const vm = name === null ? '' : ` is the VM ${escapeText(name, 80)}`;
      const places = sockets.length === 0 ? '' : `; sockets: ${sockets.map((path) => escapeText(path)).join(', ')}`;
      return finding('qemu-found', `${formatHolder(holder)}${vm}${places}`);
    });
}

/** Reads `-name guest=vm1,…` and the paths of `-chardev socket,path=…`; libvirt passes sockets as descriptors, without a path. */
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

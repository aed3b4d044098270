/** The machine: what vproxy runs on, how much the doctor can see there, what a process may have, and which QEMUs run. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import { kernelOf, type Machine } from '../machine.js';
import { formatHolder } from '../process-list.js';

/** The oldest version of Node with which vproxy is tested; package.json says the same. */
const OLDEST_NODE = [20, 19] as const;

export function checkMachine({ options }: Machine): Finding[] {
  const { nodeVersion, userId, version, proc } = options;
  const [major = 0, minor = 0] = nodeVersion.split('.').map(Number);
  const isOld = major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1]);
  const facts = `vproxy ${version}, Node ${nodeVersion}, ${kernelOf()}, looked at as ${userId === 0 ? 'root' : `user ${userId}`}`;
  return [
    finding('machine-facts', facts),
    ...(isOld ? [finding('node-old', `Node ${nodeVersion} is older than ${OLDEST_NODE.join('.')}`)] : []),
    ...(existsSync(join(proc, 'self')) ? [] : [finding('proc-missing', `there is no ${proc}/self`)]),
    ...(userId === 0
      ? []
      : [finding('not-root', 'who has what open is seen only where it is this user’s own process')]),
  ];
}

/** Channels of one process. */
interface FilesSubject {
  /** The process; null for one that would be started from here. */
  readonly pid: number | null;
  /** How many streams each of its channels may have. */
  readonly streams: readonly number[];
}

/** Besides streams, a process has listeners, channels and a log. */
const OTHER_FILES = 64;

/** Warns where the limit of open files would refuse streams that the channels allow. */
export function checkFiles(machine: Machine, { pid, streams }: FilesSubject): Finding[] {
  const limits = machine.readProc(`${pid ?? 'self'}/limits`);
  const limit = Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  const wanted = streams.reduce((sum, count) => sum + count, OTHER_FILES);
  if (wanted <= limit) return [];
  return [
    finding(
      'files-low',
      `${limit} files may be open, and ${streams.length} channels may have ${wanted - OTHER_FILES} streams`,
      `LimitNOFILE=${wanted} in the unit, or ulimit -n ${wanted}`,
    ),
  ];
}

/** What the terminals of commands need, on a side that lets its peer run commands. */
export async function checkTerminals({ options }: Machine): Promise<Finding[]> {
  return (await options.hasKoffi()) ? [] : [finding('koffi-missing', 'koffi cannot be loaded')];
}

/** The number of QEMUs that are listed. */
const MAX_LISTED_QEMUS = 32;

/** The QEMUs of this machine, by which a host is known, with the sockets of their chardevs. */
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

/** `-name guest=vm1,…` and the paths of `-chardev socket,path=…`; libvirt hands sockets over as descriptors, without a path. */
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

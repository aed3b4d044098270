/** libvirt for specs: the XML of a domain, a virsh that prints what a test wants, and a test's own libvirtd. */
import { execFile, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { Turns } from '../../lib/util/concurrency.js';
import { temporaryFolder } from './files.js';
import { eventually, within } from './time.js';

interface DomainParts {
  readonly name?: string;
  readonly devices?: string;
  /** A kernel and its initial file system, by their paths. Default: the firmware finds nothing to boot. */
  readonly boot?: Readonly<Record<'kernel' | 'initrd' | 'commandLine', string>>;
  /** Elements at the end of `<domain>`. Default none. */
  readonly end?: string;
}

/** A domain without a disk, fully emulated by QEMU; it runs until it is destroyed. */
export function formatDomain({ name = 'vm1', devices = '', boot, end = '' }: DomainParts): string {
  const linux =
    boot && `<kernel>${boot.kernel}</kernel><initrd>${boot.initrd}</initrd><cmdline>${boot.commandLine}</cmdline>`;
  return `<domain type='qemu'>
  <name>${name}</name>
  <memory unit='MiB'>${boot === undefined ? 16 : 1024}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>${linux ?? ''}</os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <devices>
${devices}  </devices>
${end}</domain>
`;
}

// A test's own virsh: a script in a folder, which reports what the test wants about one domain.

export type FakeVirsh = ReturnType<typeof fakeVirsh>;

/** A virsh that fails until it is told what to do. */
export function fakeVirsh(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const [path, log, answer] = [join(folder, 'virsh'), join(folder, 'calls'), join(folder, 'answer.xml')];
  const become = (script: string): void => {
    // A file being executed cannot be written to.
    const next = join(folder, 'next');
    writeFileSync(next, `#!/bin/sh\necho "$LC_ALL $*" >> '${log}'\n${script}\n`);
    chmodSync(next, 0o755);
    renameSync(next, path);
  };
  become('exit 1');
  return {
    path,
    /** The environment in which it is the virsh found in PATH. */
    env: { PATH: `${folder}${delimiter}${process.env['PATH'] ?? ''}` },
    become,
    print(xml: string): void {
      writeFileSync(answer, xml);
      become(`cat '${answer}'`);
    },
    /** The words of each call so far, one call a line, after its LC_ALL. */
    calls: async () => (await readFile(log, 'utf8').catch(() => '')).split('\n').slice(0, -1),
  };
}

export function domainXml(...devices: readonly string[]): string {
  return `<domain type='kvm' id='3'>\n  <name>vm1</name>\n  <devices>${devices.join('\n')}</devices>\n</domain>\n`;
}

/** A virtio channel: its type, the elements in it, and its name. */
export function channelXml(type: string, source: string, name = 'org.vproxy.0'): string {
  return `<channel type='${type}'>${source}<target type='virtio' name='${name}'/></channel>`;
}

// A test's own libvirtd, with its own folders and namespaces: the machine does not see what it does.

/** Includes sbin, where libvirtd and tools such as unshare are, also for a user without it in PATH. */
const ENV = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };

/** The folders of libvirt, and their names in `Libvirtd.folder`. */
const FOLDERS = {
  '/run': 'run',
  '/etc/libvirt': 'etc',
  '/var/lib/libvirt': 'lib',
  '/var/log/libvirt': 'log',
  '/var/cache/libvirt': 'cache',
} as const;

/** Lines of qemu.conf: without users, labels and control groups, which not every machine lets a test use. */
export const QEMU_SETTINGS = [
  'user = "root"',
  'group = "root"',
  'dynamic_ownership = 0',
  'remember_owner = 0',
  'security_driver = "none"',
  'namespaces = []',
  'cgroup_controllers = []',
  'stdio_handler = "file"',
];

/** Lines of libvirtd.conf: clients need no password. */
export const DAEMON_SETTINGS = ['auth_unix_rw = "none"', 'auth_unix_ro = "none"'];

/**
 * At first `/proc` is that of the outer namespace: it has the id by which the test knows the process. The shell stays as the
 * first process, since it reaps every QEMU that libvirtd has detached; libvirtd waits for each to vanish.
 */
const INIT = `
set -e
mount --make-rprivate /
${Object.entries(FOLDERS)
  .map(([path, name]) => `mount --bind "$1/${name}" ${path}`)
  .join('\n')}
read -r pid rest < /proc/self/stat
mount -t proc proc /proc
ip link set lo up
echo "pid $pid" >&2
libvirtd &
wait
`;

/** Becomes the command after it, in the namespaces of a libvirtd but with the test's process ids. */
const ENTER = 'mount -t proc proc /proc && exec "$@"';

const START_MS = 30_000;
const VIRSH_MS = 60_000;

export class Libvirtd {
  /** A folder on this machine with its `/run` in `run`, and libvirt's folders in `etc`, `lib`, `log` and `cache`. */
  readonly folder: string;
  /** The process id of the first process in its namespaces. */
  readonly pid: number;
  readonly #ended: Promise<unknown>;
  readonly #definitions = new Turns(1);

  constructor(folder: string, pid: number, ended: Promise<unknown>) {
    this.folder = folder;
    this.pid = pid;
    this.#ended = ended;
  }

  /** Starts one, and waits until it answers. Rejects with its output if it does not. */
  static async start(): Promise<Libvirtd> {
    const folder = mkdtempSync(join(tmpdir(), 'vproxy-'));
    for (const name of Object.values(FOLDERS)) mkdirSync(join(folder, name));
    // Programs look for these; the machine's own are hidden.
    for (const name of ['lock', 'libvirt']) mkdirSync(join(folder, 'run', name));
    writeFileSync(join(folder, 'etc/qemu.conf'), `${QEMU_SETTINGS.join('\n')}\n`);
    writeFileSync(join(folder, 'etc/libvirtd.conf'), `${DAEMON_SETTINGS.join('\n')}\n`);

    // When the first process of a namespace exits, so do all others: every QEMU ends with libvirtd.
    const namespaces = ['--mount', '--net', '--ipc', '--pid', '--fork', '--kill-child'];
    const words = ['--pdeathsig', 'KILL', 'unshare', ...namespaces, 'sh', '-c', INIT, 'sh', folder];
    const child = spawn('setpriv', words, { stdio: ['ignore', 'ignore', 'pipe'], env: ENV });
    const lines: string[] = [];
    const ended = new Promise<void>((resolve) => {
      child.once('error', (error) => lines.push(error.message));
      child.once('close', () => resolve());
    });
    const pid = new Promise<number>((resolve, reject) => {
      createInterface({ input: child.stderr }).on('line', (line) => {
        lines.push(line);
        const found = /^pid (\d+)$/.exec(line)?.[1];
        if (found !== undefined) resolve(Number(found));
      });
      void ended.then(() => reject(new Error('libvirtd ended')));
    });
    try {
      const libvirtd = new Libvirtd(folder, await within(START_MS, 'libvirtd', pid), ended);
      await eventually(async () => (await libvirtd.virsh('uri')) !== '', { what: 'libvirtd' });
      return libvirtd;
    } catch (error) {
      child.kill('SIGKILL');
      await ended;
      rmSync(folder, { recursive: true, force: true });
      throw new Error(`${String(error)}\n${lines.join('\n')}`, { cause: error });
    }
  }

  /** The URI that reaches it from anywhere on this machine, for `virsh -c` and `LIBVIRT_DEFAULT_URI`. */
  get uri(): string {
    return `qemu+unix:///system?socket=${this.outsidePath('/run/libvirt/libvirt-sock')}`;
  }

  /**
   * The words of a launcher (`SpawnOptions.launcher`) before a program: it sees this libvirtd's `/run` and `/var/lib/libvirt`,
   * with its sockets in the usual places, and has its loopback device.
   */
  get launcher(): string[] {
    const namespaces = ['--target', String(this.pid), '--mount', '--net', '--ipc'];
    return ['nsenter', ...namespaces, 'unshare', '--mount', 'sh', '-c', ENTER, 'sh'];
  }

  /** The test's path of a file that libvirt names. */
  outsidePath(path: string): string {
    for (const [inside, name] of Object.entries(FOLDERS)) {
      if (path.startsWith(`${inside}/`)) return join(this.folder, name, path.slice(inside.length));
    }
    return path;
  }

  /**
   * Defines a domain that libvirt's schema allows. One at a time: libxml2 registers the types of a schema when it first parses
   * one, and a second thread parsing meanwhile does not find them.
   */
  define(xml: string): Promise<string> {
    return this.#definitions.run(null, () => {
      const file = join(this.folder, 'domain.xml');
      writeFileSync(file, xml);
      return this.virsh('define', '--validate', file);
    });
  }

  /** The trimmed output of a virsh command. Rejects with its stderr. */
  async virsh(...args: readonly string[]): Promise<string> {
    const options = { env: ENV, timeout: VIRSH_MS, killSignal: 'SIGKILL' } as const;
    const { stdout } = await promisify(execFile)('virsh', ['--connect', this.uri, ...args], options);
    return stdout.trim();
  }

  async stop(): Promise<void> {
    process.kill(this.pid, 'SIGKILL');
    await this.#ended;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export async function startLibvirtd(t: { teardown(undo: () => Promise<unknown>): void }): Promise<Libvirtd> {
  const libvirtd = await Libvirtd.start();
  t.teardown(() => libvirtd.stop());
  return libvirtd;
}

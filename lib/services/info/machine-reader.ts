/** Facts about this machine: names, memory, disks and addresses. What cannot be determined is null or omitted. */

import { MAX_ADDRESSES, MAX_DISKS, MAX_INTERFACES, MAX_TEXT_LENGTH } from '../../status/machine-bounds.js';
import type { Disk, Machine, NetworkInterface } from '../../status/types.js';
import { type Mount, parseMounts } from '../../system/mounts.js';
import { type Clock, settledWithin } from '../../util/clock.js';
import { orElse } from '../../util/or-else.js';
import { describeHistory } from '../machine-history.js';
import { readBoot } from './boot.js';
import type { FileSystemSize, MachineSources } from './this-machine.js';

export class MachineReader {
  readonly #sources: MachineSources;
  readonly #clock: Clock;
  /** A pending statfs call: no other one is made meanwhile. */
  #unanswered: Promise<unknown> | null = null;

  constructor(sources: MachineSources, clock: Clock) {
    this.#sources = sources;
    this.#clock = clock;
  }

  /** Reads everything within a few seconds, whatever hangs. Never rejects. */
  async read(): Promise<Machine> {
    const { os } = this.#sources;
    const [hostName, osRelease, bootId, memory, disks, boot] = await Promise.all([
      this.#readHostName(),
      this.#readOsRelease(),
      this.#sources.readText('/proc/sys/kernel/random/boot_id'),
      this.#readMemory(),
      this.#readDisks(),
      readBoot(this.#sources),
    ]);
    return {
      hostName: cut(hostName),
      os: osRelease,
      kernel: { name: cut(os.type()), release: cut(os.release()), architecture: cut(os.machine()) },
      bootId: bootId === null ? null : cut(bootId.trim()),
      uptimeS: os.uptime(),
      processors: os.availableParallelism(),
      load: os.loadavg(),
      memory,
      disks,
      interfaces: this.#listInterfaces(),
      boot,
      history: describeHistory(),
    };
  }

  /**
   * The static host name, if there is one (hostname(5)): in the sandbox of a service, the system keeps returning the name from
   * when the service started.
   */
  async #readHostName(): Promise<string> {
    const text = await this.#sources.readText('/etc/hostname');
    const lines = (text ?? '').split('\n').map((line) => line.trim());
    return lines.find((line) => line !== '' && !line.startsWith('#')) ?? this.#sources.os.hostname();
  }

  async #readOsRelease(): Promise<Machine['os']> {
    const sources = this.#sources;
    const text = (await sources.readText('/etc/os-release')) ?? (await sources.readText('/usr/lib/os-release'));
    if (text === null) return null;
    const values = parseOsRelease(text);
    const value = (key: string) => (values.has(key) ? cut(values.get(key) ?? '') : null);
    return { id: value('ID'), versionId: value('VERSION_ID'), name: value('PRETTY_NAME') };
  }

  async #readMemory(): Promise<Machine['memory']> {
    const text = (await this.#sources.readText('/proc/meminfo')) ?? '';
    const bytesOf = (key: string): number | null => {
      const digits = new RegExp(`^${key}: +(\\d{1,12}) kB$`, 'm').exec(text)?.[1];
      return digits === undefined ? null : Number(digits) * 1024;
    };
    const { os } = this.#sources;
    return {
      totalBytes: bytesOf('MemTotal') ?? os.totalmem(),
      availableBytes: bytesOf('MemAvailable') ?? os.freemem(),
      swapTotalBytes: bytesOf('SwapTotal') ?? 0,
      swapFreeBytes: bytesOf('SwapFree') ?? 0,
    };
  }

  async #readDisks(): Promise<Disk[]> {
    const text = await this.#sources.readText('/proc/self/mountinfo');
    const disks: Disk[] = [];
    for (const { mountPoint, source, type } of listFileSystems(text ?? '').slice(0, MAX_DISKS)) {
      const size = await this.#measure(mountPoint);
      disks.push({
        mountPoint: cut(mountPoint),
        device: cut(source),
        type: cut(type),
        sizeBytes: size === null ? null : size.blocks * size.bsize,
        freeBytes: size === null ? null : size.bfree * size.bsize,
        availableBytes: size === null ? null : size.bavail * size.bsize,
      });
    }
    return disks;
  }

  /** Null if the system does not answer. A call that hangs blocks one of the few threads for system calls. */
  async #measure(path: string): Promise<FileSystemSize | null> {
    if (this.#unanswered !== null) return null;
    let size: FileSystemSize | null = null;
    const asked = this.#sources.statfs(path).then(
      (found) => (size = found),
      () => undefined,
    );
    const answered = asked.finally(() => {
      if (this.#unanswered === answered) this.#unanswered = null;
    });
    this.#unanswered = answered;
    await settledWithin(this.#clock, STATFS_MS, answered);
    return size;
  }

  #listInterfaces(): NetworkInterface[] {
    // It throws in a sandbox without AF_NETLINK.
    const found = orElse({}, () => this.#sources.os.networkInterfaces());
    const named = Object.entries(found).slice(0, MAX_INTERFACES);
    return named.map(([name, addresses = []]) => {
      const mac = addresses[0]?.mac ?? NO_MAC;
      return {
        name: cut(name),
        mac: mac === NO_MAC ? null : mac,
        addresses: addresses.slice(0, MAX_ADDRESSES).map(({ cidr, address }) => cidr ?? address),
      };
    });
  }
}

/** Timeout for the answer of a file system. */
const STATFS_MS = 1000;

/** Node's value for an interface without a hardware address. */
const NO_MAC = '00:00:00:00:00:00';

const cut = (text: string): string => text.slice(0, MAX_TEXT_LENGTH);

/** Parses the variables of os-release(5), whose values may have shell quotes. */
function parseOsRelease(text: string): ReadonlyMap<string, string> {
  const pairs = text.split('\n').flatMap((line) => {
    const [, key, value = ''] = /^([A-Z0-9_]+)=(.*)$/.exec(line.trim()) ?? [];
    if (key === undefined) return [];
    const [, quote, inner = ''] = /^(["'])(.*)\1$/.exec(value) ?? [];
    const plain = quote === undefined ? value : inner;
    return [[key, quote === "'" ? plain : plain.replace(/\\(.)/g, '$1')] as const];
  });
  return new Map(pairs);
}

/** Local file systems without a device number of their own. */
const WITHOUT_DEVICE: ReadonlySet<string> = new Set(['bcachefs', 'btrfs', 'zfs']);

/** Images that are always full. */
const IMAGES: ReadonlySet<string> = new Set(['cramfs', 'erofs', 'iso9660', 'squashfs']);

/** Served file systems, besides all types that begin with `fuse`: if the server does not answer, the caller hangs. */
const SERVED: ReadonlySet<string> = new Set([
  ...['9p', 'afs', 'ceph', 'cifs', 'coda', 'glusterfs', 'gfs', 'gfs2', 'gpfs', 'lustre', 'ncpfs', 'nfs', 'nfs4'],
  ...['ocfs2', 'orangefs', 'smb3', 'smbfs', 'vboxsf', 'virtiofs', 'autofs'],
]);

/**
 * Lists the real file systems in /proc/self/mountinfo (proc_pid_mountinfo(5)), each once: those on a block device, and the root
 * in any case; none that a network, another machine or a program serves.
 */
function listFileSystems(text: string): Mount[] {
  const byDevice = new Map<string, Mount>();
  for (const mount of parseMounts(text)) {
    const { id, mountPoint, type } = mount;
    const isServed = SERVED.has(type) || type.startsWith('fuse');
    const isReal = (!id.startsWith('0:') || WITHOUT_DEVICE.has(type)) && !IMAGES.has(type);
    const other = byDevice.get(id);
    const isShorter = other === undefined || mountPoint.length < other.mountPoint.length;
    if (isShorter && !isServed && (isReal || mountPoint === '/')) byDevice.set(id, mount);
  }
  return [...byDevice.values()];
}

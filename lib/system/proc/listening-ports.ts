/** Watches the TCP listeners of other processes: their ports, where to dial them, and their programs. */
import os from 'node:os';
import { isEveryAddress } from '../../util/addresses/host-port.js';
import { listPids, openFiles, processorLimit, programOf } from './proc.js';
import { findTcpListeners, type TcpListener } from './proc-net.js';

export interface ListeningPort {
  readonly port: number;
  /** The address to dial from this machine. */
  readonly host: string;
  /** The program that listens, its name cut to 15 bytes; null if it cannot be seen. */
  readonly program: string | null;
}

interface ListeningPortsOptions {
  /** Default `/proc`. */
  readonly procPath?: string;
  /** The process whose own listeners are skipped. Default: this one. */
  readonly pid?: number;
  /** Whether this machine has the address ::1. Default: asks the system. */
  readonly hasLoopback6?: () => boolean;
}

/** Processor time to spend on finding the programs of new listeners, in milliseconds; the search continues with the next look. */
const HOLDERS_MS = 1000;

/** The listeners of other processes. */
export class ListeningPorts {
  readonly #options: Required<ListeningPortsOptions>;
  /** Known holders by inode, from the last look, so that nothing is looked up twice. */
  #holders = new Map<string, Holder>();
  /** As last listed. */
  #listed: readonly ListeningPort[] = [];

  constructor(options: ListeningPortsOptions = {}) {
    this.#options = { procPath: '/proc', pid: process.pid, hasLoopback6: findLoopback6, ...options };
  }

  /**
   * The wanted ports, sorted and without duplicates; with `onlyKnown`, those listed before that still have a listener, without
   * a search. Never rejects: empty if nothing can be seen.
   */
  async look(isWanted: (port: number) => boolean, onlyKnown = false): Promise<readonly ListeningPort[]> {
    const listeners = await findTcpListeners(this.#options.procPath, isWanted);
    if (onlyKnown) {
      const open = new Set(listeners.map(({ address }) => address.port));
      return this.#listed.filter(({ port }) => open.has(port));
    }
    const known = this.#holders;
    const inodes = new Set(listeners.map(({ inode }) => inode));
    const missing = new Set([...inodes].filter((inode) => !known.has(inode)));
    const found = missing.size === 0 ? new Map<string, Holder>() : await this.#findHolders(missing);
    const holderOf = (inode: string): Holder => known.get(inode) ?? found.get(inode) ?? NOBODY;
    this.#holders = new Map([...known, ...found].filter(([inode]) => inodes.has(inode)));
    const others = listeners.filter(({ inode }) => !holderOf(inode).isOwn);
    const best = new Map<number, TcpListener>();
    for (const listener of others) {
      const { port, host } = listener.address;
      const rank = rankOf(host);
      const before = best.get(port);
      if (rank !== null && (before === undefined || rank < (rankOf(before.address.host) ?? rank)))
        best.set(port, listener);
    }
    this.#listed = [...best.values()]
      .map(({ inode, address: { host, port } }) => ({
        port,
        host: this.#dialled(host),
        program: holderOf(inode).program,
      }))
      .sort((one, other) => one.port - other.port);
    return this.#listed;
  }

  /** A listener on every IPv6 address usually accepts IPv4, too, and without ::1 there is no other choice. */
  #dialled(host: string): string {
    if (!isEveryAddress(host)) return host;
    return host.includes(':') && this.#options.hasLoopback6() ? '::1' : '127.0.0.1';
  }

  /** Finds the holders of sockets: this process, then others, newest first; `NOBODY` if no visible process holds one. */
  async #findHolders(missing: Set<string>): Promise<Map<string, Holder>> {
    const found = new Map<string, Holder>();
    const search = async (pid: number, isOver: () => boolean): Promise<void> => {
      let holder: Holder | null = null;
      for await (const name of openFiles(this.#options.procPath, pid, isOver)) {
        const inode = name.startsWith('socket:[') ? name.slice(8, -1) : '';
        if (!missing.delete(inode)) continue;
        holder ??= { isOwn: pid === this.#options.pid, program: programOf(this.#options.procPath, pid) || null };
        found.set(inode, holder);
      }
    };
    // Without a time limit: our own sockets must not be taken for another's.
    await search(this.#options.pid, () => missing.size === 0);
    const isLate = processorLimit(HOLDERS_MS);
    const isOver = (): boolean => missing.size === 0 || isLate();
    for (const pid of missing.size === 0 ? [] : listPids(this.#options.procPath).reverse()) {
      if (isOver()) break;
      if (pid !== this.#options.pid) await search(pid, isOver);
    }
    if (!isLate()) for (const inode of missing) found.set(inode, NOBODY);
    return found;
  }
}

interface Holder {
  readonly isOwn: boolean;
  readonly program: string | null;
}

const NOBODY: Holder = { isOwn: false, program: null };

/** Ranks listeners on the same port, lowest first; null for a link-local address, which is useless without its link. */
function rankOf(host: string): number | null {
  if (/^fe[89ab]/i.test(host)) return null;
  const isIpv6 = host.includes(':');
  if (host === '127.0.0.1' || host === '::1' || isEveryAddress(host)) return isIpv6 ? 1 : 0;
  return isIpv6 ? 3 : 2;
}

function findLoopback6(): boolean {
  return Object.values(os.networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === '::1'));
}

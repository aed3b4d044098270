/** Which TCP ports somebody listens on here, where they are dialled, and whose they are; looked at again and again. */
import os from 'node:os';
import { isEveryAddress } from '../../util/addresses.js';
import { listPids, openFiles, processorLimit, programOf } from './proc.js';
import { findTcpListeners, type TcpListener } from './proc-net.js';

/** A port with a listener. */
export interface ListeningPort {
  readonly port: number;
  /** The address at which it is dialled from this machine. */
  readonly host: string;
  /** The program that listens, at most 15 bytes of its name; null where it cannot be seen. */
  readonly program: string | null;
}

interface ListeningPortsOptions {
  /** Default `/proc`. */
  readonly procPath?: string;
  /** The process whose own listeners do not count. Default: this one. */
  readonly pid?: number;
  /** Whether this machine has the address ::1. Default: the system is asked. */
  readonly hasLoopback6?: () => boolean;
}

/** The processor time for which the programs of new listeners are looked for, in milliseconds; what is not found by then is looked for again. */
const HOLDERS_MS = 1000;

/** Those of other processes than this one. */
export class ListeningPorts {
  readonly #procPath: string;
  readonly #pid: number;
  readonly #hasLoopback6: () => boolean;
  /** What is known of the listeners of the last look, by inode: nothing is looked for twice. */
  #holders = new Map<string, Holder>();

  constructor({ procPath = '/proc', pid = process.pid, hasLoopback6 = findLoopback6 }: ListeningPortsOptions = {}) {
    this.#procPath = procPath;
    this.#pid = pid;
    this.#hasLoopback6 = hasLoopback6;
  }

  /** The ports for which `isWanted`, each once, in their order. Never rejects: where nothing can be seen there are none. */
  async look(isWanted: (port: number) => boolean): Promise<ListeningPort[]> {
    const listeners = await findTcpListeners(this.#procPath, isWanted);
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
    return [...best.values()]
      .map(({ inode, address: { host, port } }) => ({
        port,
        host: this.#dialled(host),
        program: holderOf(inode).program,
      }))
      .sort((one, other) => one.port - other.port);
  }

  /** A listener at every IPv6 address mostly takes IPv4, too, and where there is no ::1 nothing else is left. */
  #dialled(host: string): string {
    if (!isEveryAddress(host)) return host;
    return host.includes(':') && this.#hasLoopback6() ? '::1' : '127.0.0.1';
  }

  /** Who has these sockets: this process, or, newest first, another one; `NOBODY` where all that can be seen have been looked at. */
  async #findHolders(missing: Set<string>): Promise<Map<string, Holder>> {
    const found = new Map<string, Holder>();
    const search = async (pid: number, isOver: () => boolean): Promise<void> => {
      let holder: Holder | null = null;
      for await (const name of openFiles(this.#procPath, pid, isOver)) {
        const inode = name.startsWith('socket:[') ? name.slice(8, -1) : '';
        if (!missing.delete(inode)) continue;
        holder ??= { isOwn: pid === this.#pid, program: programOf(this.#procPath, pid) || null };
        found.set(inode, holder);
      }
    };
    // However long it takes: what is this process's own must not be taken for another's.
    await search(this.#pid, () => missing.size === 0);
    const isLate = processorLimit(HOLDERS_MS);
    const isOver = (): boolean => missing.size === 0 || isLate();
    for (const pid of missing.size === 0 ? [] : listPids(this.#procPath).reverse()) {
      if (isOver()) break;
      if (pid !== this.#pid) await search(pid, isOver);
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

/** Which of several listeners at one port is dialled, the lowest first; null: a link-local address means nothing without its link. */
function rankOf(host: string): number | null {
  if (/^fe[89ab]/i.test(host)) return null;
  const isIpv6 = host.includes(':');
  if (host === '127.0.0.1' || host === '::1' || isEveryAddress(host)) return isIpv6 ? 1 : 0;
  return isIpv6 ? 3 : 2;
}

function findLoopback6(): boolean {
  return Object.values(os.networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === '::1'));
}

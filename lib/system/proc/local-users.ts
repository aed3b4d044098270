/** The users at the other ends of local connections, from Linux's /proc/net. */
import type net from 'node:net';
import { isLoopback } from '../../util/addresses/host-port.js';
import { processorLimit } from './proc.js';
import { parseHexAddress, readTable } from './proc-net.js';

/** User numbers by the address and port of their sockets: `127.0.0.1 40000`. */
type Users = ReadonlyMap<string, string>;

/** An accepted connection. */
type Connection = Pick<net.Socket, 'remoteAddress' | 'remotePort' | 'localPort'>;

/** Limit on connections that wait for a look; beyond it, users are not looked up. */
const MAX_WAITING = 512;

/**
 * Processor time after which a table is abandoned, in milliseconds: it also lists connections closed up to a minute ago. The
 * user of a connection decides whether it is closed when too many wait.
 */
const LOOK_MS = 1000;

/** Finds the users connected to one TCP listener. One look serves all connections that were there when it began. */
export class LocalUsers {
  readonly #procPath: string;
  readonly #lookMs: number;
  #running: Promise<Users> | null = null;
  #next: Promise<Users> | null = null;
  #waiting = 0;

  constructor(procPath = '/proc', lookMs = LOOK_MS) {
    this.#procPath = procPath;
    this.#lookMs = lookMs;
  }

  /** The user number at the other end; null if it is remote or unknown. Never rejects. */
  async userOf({ remoteAddress, remotePort, localPort }: Connection): Promise<string | null> {
    const host = remoteAddress?.replace(/^::ffff:/, '') ?? '';
    if (localPort === undefined || !isLoopback(host) || this.#waiting >= MAX_WAITING) return null;
    this.#waiting += 1;
    const users = await this.#look(localPort);
    this.#waiting -= 1;
    return users.get(`${host} ${remotePort ?? 0}`) ?? null;
  }

  /** Runs one look at a time, started after the call. */
  #look(port: number): Promise<Users> {
    if (this.#running === null) return this.#start(port);
    this.#next ??= this.#running.then(() => {
      this.#next = null;
      return this.#start(port);
    });
    return this.#next;
  }

  #start(port: number): Promise<Users> {
    this.#running = readUsers(this.#procPath, port, this.#lookMs).finally(() => (this.#running = null));
    return this.#running;
  }
}

async function readUsers(procPath: string, port: number, lookMs: number): Promise<Users> {
  const users = new Map<string, string>();
  const isOver = processorLimit(lookMs);
  for (const name of ['tcp', 'tcp6']) await addUsers(users, `${procPath}/net/${name}`, port, isOver);
  return users;
}

/** Adds the users in one table. */
async function addUsers(users: Map<string, string>, path: string, port: number, isOver: () => boolean): Promise<void> {
  const remote = `[0-9A-F]+:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  // sl local_address rem_address st tx:rx tr:when retrnsmt uid, for a connected socket.
  const line = new RegExp(`^ *\\d+: ([0-9A-F]+):([0-9A-F]{4}) ${remote} 01 \\S+ \\S+ \\S+ +(\\d+) `, 'gm');
  for await (const lines of readTable(path)) {
    for (const [, host = '', digits = '', user = ''] of lines.matchAll(line)) {
      users.set(`${parseHexAddress(host)} ${Number.parseInt(digits, 16)}`, user);
    }
    if (isOver()) return;
  }
}

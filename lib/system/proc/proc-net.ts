/** The sockets of this machine, as Linux lists them in /proc/net, and who has them. */
import { promises as fs } from 'node:fs';
import { endianness } from 'node:os';
import { addressesOverlap, formatAddress, type HostPort } from '../../util/addresses.js';
import { escapeText } from '../../util/escape.js';
import { findHolder, listPids, processorLimit, programOf } from './proc.js';

/** What a socket does. `queued`: the program that listens has not accepted the connection yet. */
type SocketState = 'listening' | 'queued' | 'connected' | 'other';

/** A socket with a TCP address, or with the path of a unix socket, of which the other one is null. */
export interface ListedSocket {
  /** `0` for one that no process has (any more, or yet). */
  readonly inode: string;
  readonly state: SocketState;
  readonly address: HostPort | null;
  readonly path: string | null;
  /** The address at the other end of a TCP connection; null for all else. */
  readonly remote: HostPort | null;
  /** Whose it is; null where that is not listed. */
  readonly userId: number | null;
}

type Listener = ListedSocket & { readonly state: 'listening' };

/** The part of a table that is read for those that listen: they come first in the tables of TCP. */
const LISTENERS_BYTES = 2 ** 20;

/** And for all: 100,000 sockets. Those that were closed a minute ago count. */
const TABLE_BYTES = 2 ** 24;

const TCP_STATES: Readonly<Record<string, SocketState>> = { '0A': 'listening', '01': 'connected' };

/** `__SO_ACCEPTCON` among the flags of a unix socket. */
const UNIX_LISTENS = 0x10000;

/** States of a unix socket: SS_CONNECTING is what a listed one has until it is accepted. */
const UNIX_STATES: Readonly<Record<string, SocketState>> = { '02': 'queued', '03': 'connected' };

/** Those of the network namespace of this process that listen; what cannot be read is left out. */
async function findListeners(procPath: string, tables: Tables): Promise<Listener[]> {
  const isBehindThem = (last?: ListedSocket): boolean => tables === TABLES.tcp && last?.state !== 'listening';
  const sockets = await readTables(tables, procPath, isBehindThem, LISTENERS_BYTES);
  return sockets.filter((socket) => socket.state === 'listening') as Listener[];
}

/** All of TCP and unix sockets that have an address or a path; what cannot be read, also because `isOver`, is left out. */
export function findSockets(procPath: string, isOver: () => boolean): Promise<ListedSocket[]> {
  return readTables({ ...TABLES.tcp, unix: parseUnixLine }, procPath, isOver, TABLE_BYTES);
}

/** The tables of /proc/net, and what reads a line of each. */
type Tables = Readonly<Record<string, (line: string) => ListedSocket | null>>;

/** `isOver` is asked behind each piece of a table, with the last socket so far. */
async function readTables(
  tables: Tables,
  procPath: string,
  isOver: (last?: ListedSocket) => boolean,
  tableBytes: number,
): Promise<ListedSocket[]> {
  const found = await Promise.all(
    Object.entries(tables).map(async ([name, parse]) => {
      const sockets: ListedSocket[] = [];
      for await (const lines of readTable(`${procPath}/net/${name}`, tableBytes)) {
        sockets.push(...lines.split('\n').flatMap((line) => parse(line) ?? []));
        if (isOver(sockets.at(-1))) break;
      }
      return sockets;
    }),
  );
  return found.flat();
}

/** What is read at once; Linux gives a page of a table at a time. */
const READ_BYTES = 65_536;

const NEWLINE = 0x0a;

/**
 * The start of a table in pieces of whole lines, so that a long one stops nobody else. Nothing where it cannot be read: on another
 * system, or in a namespace without it.
 */
export async function* readTable(path: string, maxBytes = Number.POSITIVE_INFINITY): AsyncGenerator<string> {
  const file = await fs.open(path).catch(() => null);
  if (file === null) return;
  try {
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    let rest = Buffer.alloc(0);
    for (let byteCount = 0; byteCount < maxBytes; ) {
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES);
      if (bytesRead === 0) break;
      byteCount += bytesRead;
      const bytes = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
      const end = bytes.lastIndexOf(NEWLINE) + 1;
      rest = bytes.subarray(end);
      yield bytes.toString('utf8', 0, end);
    }
    yield rest.toString();
  } catch {
    // What it has said so far is all.
  } finally {
    await file.close();
  }
}

/** A TCP socket that listens. */
export interface TcpListener {
  readonly inode: string;
  readonly address: HostPort;
}

/**
 * The TCP sockets that listen in the network namespace of this process, at ports for which `isWanted`. A table is read as far as
 * they go, not the connections behind them; one that cannot be read has none.
 */
export async function findTcpListeners(procPath: string, isWanted: (port: number) => boolean): Promise<TcpListener[]> {
  const listeners = await findListeners(procPath, TABLES.tcp);
  return listeners.flatMap(({ inode, address }) =>
    address !== null && isWanted(address.port) ? [{ inode, address }] : [],
  );
}

/** `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …` */
function parseTcpLine(line: string): ListedSocket | null {
  const [, local = '', rem = '', code = '', , , , uid = '', , inode = ''] = line.trim().split(/\s+/);
  const address = parseHexEndpoint(local);
  if (address === null) return null;
  const state = TCP_STATES[code] ?? 'other';
  const remote = state === 'connected' ? parseHexEndpoint(rem) : null;
  return { inode, state, address, remote, path: null, userId: /^\d+$/.test(uid) ? Number(uid) : null };
}

/** As a line of TCP: one that is bound, and not connected, is one that listens. */
function parseUdpLine(line: string): ListedSocket | null {
  const socket = parseTcpLine(line);
  return socket && { ...socket, state: socket.state === 'connected' ? 'connected' : 'listening' };
}

/** `Num: RefCount Protocol Flags Type St Inode Path` */
function parseUnixLine(line: string): ListedSocket | null {
  const pattern = /^\S+: \S+ \S+ ([0-9A-F]+) \S+ ([0-9A-F]+) +(\d+) (.+)$/;
  const [, flags = '', code = '', inode = '', path = ''] = pattern.exec(line) ?? [];
  if (path === '') return null;
  const isListening = (Number.parseInt(flags, 16) & UNIX_LISTENS) !== 0;
  const state = isListening ? 'listening' : (UNIX_STATES[code] ?? 'other');
  return { inode, state, address: null, remote: null, path, userId: null };
}

/** As another line of a unix socket: one for datagrams that is bound to a path is one that listens. */
function parseUnixLineOfAny(line: string): ListedSocket | null {
  const socket = parseUnixLine(line);
  return socket && UNIX_DATAGRAMS.test(line) ? { ...socket, state: 'listening' } : socket;
}

/** The type SOCK_DGRAM. */
const UNIX_DATAGRAMS = /^\S+: \S+ \S+ \S+ 0002 /;

function parseHexEndpoint(text: string): HostPort | null {
  const [, hex = '', port = ''] = /^((?:[0-9A-F]{8}){1,4}):([0-9A-F]{4})$/.exec(text) ?? [];
  return hex === '' ? null : { host: parseHexAddress(hex), port: Number.parseInt(port, 16) };
}

/** Words of 32 bits, each in the byte order of the machine: `0100007F` is 127.0.0.1. An IPv4 address within IPv6 is one of IPv4. */
export function parseHexAddress(hex: string): string {
  const bytes = Buffer.from(hex, 'hex');
  if (endianness() === 'LE') bytes.swap32();
  return formatAddress(bytes).replace(/^::ffff:(?=\d+\.)/, '');
}

/** The tables of each kind of address that is looked for. */
const TABLES = {
  tcp: { tcp: parseTcpLine, tcp6: parseTcpLine },
  udp: { udp: parseUdpLine, udp6: parseUdpLine },
  path: { unix: parseUnixLineOfAny },
} as const;

// Who has an address that is taken: from Linux' /proc, as far as this user may look there.

interface AddressOwnerOptions {
  /** The processor time for which other processes are looked at, in milliseconds. Default 1000. This one is known however long it takes. */
  readonly limitMs?: number;
  /** Default `/proc`. */
  readonly procPath?: string;
  /** Whose address it is, where it is not a path. Default `tcp`. */
  readonly protocol?: 'tcp' | 'udp';
}

/**
 * Who listens on an address of TCP, or has one of UDP, or a unix socket for connections or datagrams: `process 123 (sshd)`, `this process`, or `a process of user 0` where
 * its descriptors cannot be seen. Null where that cannot be known. Never rejects.
 */
export async function findAddressOwner(
  address: HostPort | { readonly path: string },
  { limitMs = 1000, procPath = '/proc', protocol = 'tcp' }: AddressOwnerOptions = {},
): Promise<string | null> {
  const listeners = await findListeners(procPath, TABLES['path' in address ? 'path' : protocol]);
  const found = listeners.filter((listener) => isAt(listener, address));
  if (found.length === 0) return null;
  const names = new Set(found.map(({ inode }) => `socket:[${inode}]`));
  const isOwn = (await findHolder(procPath, [process.pid], names, () => false)) !== null;
  const pid = isOwn ? process.pid : await findHolder(procPath, listPids(procPath), names, processorLimit(limitMs));
  if (pid === process.pid) return 'this process';
  if (pid !== null) {
    const program = programOf(procPath, pid);
    return `process ${pid}${program === '' ? '' : ` (${escapeText(program, 32)})`}`;
  }
  const user = found.find(({ userId }) => userId !== null)?.userId ?? null;
  return user === null ? null : `a process of user ${user}`;
}

function isAt(listener: Listener, address: HostPort | { readonly path: string }): boolean {
  if ('path' in address) return listener.path === address.path;
  return listener.address !== null && addressesOverlap(listener.address, address);
}

/** The sockets of this machine, from Linux's /proc/net, and their owners. */
import { endianness } from 'node:os';
import { addressesOverlap, formatAddress, type HostPort } from '../../util/addresses/host-port.js';
import { escapeText } from '../../util/escape.js';
import { wholeLines } from '../files/whole-lines.js';
import { findHolder, listPids, processorLimit, programOf } from './proc.js';

/** The state of a socket. `queued`: not yet accepted by the listening program. */
type SocketState = 'listening' | 'queued' | 'connected' | 'other';

/** A socket with a TCP address or a unix path; the other one is null. */
export interface ListedSocket {
  /** `0` if no process has it, either no longer or not yet. */
  readonly inode: string;
  readonly state: SocketState;
  readonly address: HostPort | null;
  readonly path: string | null;
  /** The remote address of a TCP connection; otherwise null. */
  readonly remote: HostPort | null;
  /** The owner; null if not listed. */
  readonly userId: number | null;
}

type Listener = ListedSocket & { readonly state: 'listening' };

/** How much of a table to read for listeners: they come first in the TCP tables. */
const LISTENERS_BYTES = 2 ** 20;

/** How much to read for all sockets: 100,000 of them, including those closed up to a minute ago. */
const TABLE_BYTES = 2 ** 24;

const TCP_STATES: Readonly<Record<string, SocketState>> = { '0A': 'listening', '01': 'connected' };

/** `__SO_ACCEPTCON` in the flags of a unix socket. */
const UNIX_LISTENS = 0x10000;

/** How often to look for a listener that exists: the kernel gives out a table by the page, and skips rows when sockets close meanwhile. */
const READINGS = 3;

/** States of a unix socket; SS_CONNECTING lasts until it is accepted. */
const UNIX_STATES: Readonly<Record<string, SocketState>> = { '02': 'queued', '03': 'connected' };

/** The listeners in this process's network namespace; skips what cannot be read. */
async function findListeners(procPath: string, tables: Tables): Promise<Listener[]> {
  const isBehindThem = (last?: ListedSocket): boolean => tables === TABLES.tcp && last?.state !== 'listening';
  const sockets = await readTables(tables, procPath, isBehindThem, LISTENERS_BYTES);
  return sockets.filter((socket) => socket.state === 'listening') as Listener[];
}

/** All TCP and unix sockets with an address or a path; skips what cannot be read, or comes after `isOver`. */
export function findSockets(procPath: string, isOver: () => boolean): Promise<ListedSocket[]> {
  return readTables({ ...TABLES.tcp, unix: parseUnixLine }, procPath, isOver, TABLE_BYTES);
}

/** The tables of /proc/net, and the parser for lines of each. */
type Tables = Readonly<Record<string, (line: string) => ListedSocket | null>>;

/** Calls `isOver` after each chunk of a table, with the last socket so far. */
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

/** A table, or its start, in texts of whole lines. Ends early if it cannot be read, on another system or in a namespace without it. */
export async function* readTable(path: string, maxBytes?: number): AsyncGenerator<string, void, undefined> {
  try {
    yield* wholeLines(path, maxBytes === undefined ? {} : { maxBytes });
  } catch {
    // Keep what was read so far.
  }
}

export interface TcpListener {
  readonly inode: string;
  readonly address: HostPort;
}

/**
 * The TCP listeners in this process's network namespace on ports for which `isWanted`. Reads a table only as far as they go, not
 * the connections after them; an unreadable table counts as empty.
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

/** Like a TCP line; a bound socket that is not connected counts as listening. */
function parseUdpLine(line: string): ListedSocket | null {
  const socket = parseTcpLine(line);
  return socket && { ...socket, state: socket.state === 'connected' ? 'connected' : 'listening' };
}

/** `Num: RefCount Protocol Flags Type St Inode Path` */
function parseUnixLine(line: string): ListedSocket | null {
  const pattern = /^\S+: \S+ \S+ ([0-9A-F]+) (\S+) ([0-9A-F]+) +(\d+) (.+)$/;
  const [, flags = '', type = '', code = '', inode = '', path = ''] = pattern.exec(line) ?? [];
  if (path === '') return null;
  const isListening = type === UNIX_STREAM && (Number.parseInt(flags, 16) & UNIX_LISTENS) !== 0;
  const state = isListening ? 'listening' : (UNIX_STATES[code] ?? 'other');
  return { inode, state, address: null, remote: null, path, userId: null };
}

/** Like a unix socket line; a socket of another type counts as listening, too. */
function parseUnixLineOfAny(line: string): ListedSocket | null {
  const socket = parseUnixLine(line);
  return socket && UNIX_OTHERS.test(line) ? { ...socket, state: 'listening' } : socket;
}

/** The type SOCK_STREAM. */
const UNIX_STREAM = '0001';

/** SOCK_DGRAM with a path, and SOCK_SEQPACKET that listens. */
const UNIX_OTHERS = /^\S+: \S+ \S+ (?:\S+ 0002|00010000 0005) /;

function parseHexEndpoint(text: string): HostPort | null {
  const [, hex = '', port = ''] = /^((?:[0-9A-F]{8}){1,4}):([0-9A-F]{4})$/.exec(text) ?? [];
  return hex === '' ? null : { host: parseHexAddress(hex), port: Number.parseInt(port, 16) };
}

/** Parses 32-bit words in the machine's byte order: `0100007F` is 127.0.0.1. An IPv4-mapped address becomes IPv4. */
export function parseHexAddress(hex: string): string {
  const bytes = Buffer.from(hex, 'hex');
  if (endianness() === 'LE') bytes.swap32();
  return formatAddress(bytes).replace(/^::ffff:(?=\d+\.)/, '');
}

/** The tables for each kind of address. */
const TABLES = {
  tcp: { tcp: parseTcpLine, tcp6: parseTcpLine },
  udp: { udp: parseUdpLine, udp6: parseUdpLine },
  path: { unix: parseUnixLineOfAny },
} as const;

// The owner of an address in use, from Linux's /proc, as far as this user can see.

interface AddressOwnerOptions {
  /** Processor time to spend on other processes, in milliseconds. Default 1000. This process is always checked. */
  readonly limitMs?: number;
  /** Default `/proc`. */
  readonly procPath?: string;
  /** The protocol of an address that is not a path. Default `tcp`. */
  readonly protocol?: 'tcp' | 'udp';
}

/**
 * The owner of a TCP listener, a UDP address, or a unix socket for connections or datagrams: `process 123 (sshd)`,
 * `this process`, or `a process of user 0` if its descriptors cannot be seen. Null if unknown. Never rejects.
 */
export async function findAddressOwner(
  address: HostPort | { readonly path: string },
  { limitMs = 1000, procPath = '/proc', protocol = 'tcp' }: AddressOwnerOptions = {},
): Promise<string | null> {
  let found: readonly Listener[] = [];
  for (let reading = 0; reading < READINGS && found.length === 0; reading += 1) {
    const listeners = await findListeners(procPath, TABLES['path' in address ? 'path' : protocol]);
    found = listeners.filter((listener) => isAt(listener, address));
  }
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

/** The sockets of this machine, as Linux lists them in /proc/net, and the processes that have them. */
import { promises as fs } from 'node:fs';
import { addressesOverlap, type HostPort } from '../util/addresses.js';
import { escapeText } from '../util/escape.js';

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

/** Those of the network namespace of this process that listen; what cannot be read, also because `isOver`, is left out. */
async function findListeners(procPath: string, isOver: () => boolean): Promise<Listener[]> {
  const sockets = await findSockets(procPath, isOver, LISTENERS_BYTES);
  return sockets.filter((socket) => socket.state === 'listening') as Listener[];
}

/** All of them that have an address or a path; as {@link findListeners}. */
export async function findSockets(
  procPath: string,
  isOver: () => boolean,
  tableBytes = TABLE_BYTES,
): Promise<ListedSocket[]> {
  const tables = { tcp: parseTcpLine, tcp6: parseTcpLine, unix: parseUnixLine };
  const found = await Promise.all(
    Object.entries(tables).map(async ([name, parse]) =>
      (await readTable(`${procPath}/net/${name}`, tableBytes, isOver)).split('\n').map(parse),
    ),
  );
  return found.flat().filter((socket) => socket !== null);
}

async function readTable(path: string, maxBytes: number, isOver: () => boolean): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    const stream = (await fs.open(path)).createReadStream({ end: maxBytes - 1 });
    for await (const chunk of stream) {
      chunks.push(chunk as Buffer);
      if (isOver()) break;
    }
  } catch {
    // Another system, or a namespace without it.
  }
  return Buffer.concat(chunks).toString();
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

/** `Num: RefCount Protocol Flags Type St Inode Path` */
function parseUnixLine(line: string): ListedSocket | null {
  const pattern = /^\S+: \S+ \S+ ([0-9A-F]+) \S+ ([0-9A-F]+) +(\d+) (.+)$/;
  const [, flags = '', code = '', inode = '', path = ''] = pattern.exec(line) ?? [];
  if (path === '') return null;
  const isListening = (Number.parseInt(flags, 16) & UNIX_LISTENS) !== 0;
  const state = isListening ? 'listening' : (UNIX_STATES[code] ?? 'other');
  return { inode, state, address: null, remote: null, path, userId: null };
}

function parseHexEndpoint(text: string): HostPort | null {
  const [, hex = '', port = ''] = /^((?:[0-9A-F]{8}){1,4}):([0-9A-F]{4})$/.exec(text) ?? [];
  return hex === '' ? null : { host: parseHexAddress(hex), port: Number.parseInt(port, 16) };
}

/** Words of 32 bits, each in the byte order of the machine: `0100007F` is 127.0.0.1. An IPv4 address within IPv6 is one of IPv4. */
function parseHexAddress(hex: string): string {
  const bytes = Buffer.from(hex, 'hex');
  if (IS_LITTLE_ENDIAN) bytes.swap32();
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(2 * index).toString(16));
  if (groups.slice(0, 6).join(':') === '0:0:0:0:0:ffff') return bytes.subarray(12).join('.');
  return groups.join(':');
}

const IS_LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

// Who has an address that is taken: from Linux' /proc, as far as this user may look there.

interface AddressOwnerOptions {
  /** How long it may be looked for, in milliseconds. Default 1000. This process is known however long it takes. */
  readonly timeoutMs?: number;
  /** Default `/proc`. */
  readonly procPath?: string;
}

/**
 * Who listens on a TCP address, or on a unix socket: `process 123 (sshd)`, `this process`, or `a process of user 0` where
 * its descriptors cannot be seen. Null where that cannot be known. Never rejects.
 */
export async function findAddressOwner(
  address: HostPort | { readonly path: string },
  { timeoutMs = 1000, procPath = '/proc' }: AddressOwnerOptions = {},
): Promise<string | null> {
  const isOver = deadline(timeoutMs);
  const listeners = await findListeners(procPath, isOver);
  const found = listeners.filter((listener) => isAt(listener, address));
  if (found.length === 0) return null;
  const names = new Set(found.map(({ inode }) => `socket:[${inode}]`));
  const pid = await findHolder(procPath, names, isOver);
  if (pid === process.pid) return 'this process';
  if (pid !== null) return `process ${pid}${await nameOf(procPath, pid)}`;
  const user = found.find(({ userId }) => userId !== null)?.userId ?? null;
  return user === null ? null : `a process of user ${user}`;
}

function isAt(listener: Listener, address: HostPort | { readonly path: string }): boolean {
  if ('path' in address) return listener.path === address.path;
  return listener.address !== null && addressesOverlap(listener.address, address);
}

/** The process that has one of these descriptors open; this one is looked at first. */
async function findHolder(procPath: string, names: ReadonlySet<string>, isOver: () => boolean): Promise<number | null> {
  if (await hasOpen(`${procPath}/${process.pid}`, names, () => false)) return process.pid;
  for (const pid of (await list(procPath)).filter((name) => /^\d+$/.test(name))) {
    if (isOver()) return null;
    if (await hasOpen(`${procPath}/${pid}`, names, isOver)) return Number(pid);
  }
  return null;
}

async function hasOpen(process: string, names: ReadonlySet<string>, isOver: () => boolean): Promise<boolean> {
  for (const descriptor of await list(`${process}/fd`)) {
    if (isOver()) return false;
    if (names.has(await fs.readlink(`${process}/fd/${descriptor}`).catch(() => ''))) return true;
  }
  return false;
}

/** What is in a folder; nothing where that must not be seen, or is not there any more. */
function list(folder: string): Promise<string[]> {
  return fs.readdir(folder).catch(() => []);
}

async function nameOf(procPath: string, pid: number): Promise<string> {
  const name = await fs.readFile(`${procPath}/${pid}/comm`, 'utf8').catch(() => '');
  return name === '' ? '' : ` (${escapeText(name.trimEnd(), 32)})`;
}

function deadline(timeoutMs: number): () => boolean {
  const untilMs = performance.now() + timeoutMs;
  return () => performance.now() >= untilMs;
}

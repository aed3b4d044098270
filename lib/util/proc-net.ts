/** The sockets of this machine, as Linux lists them in /proc/net. */
import fs from 'node:fs/promises';
import type { HostPort } from './host-port.js';

/** What a socket does. `queued`: the program that listens has not accepted the connection yet. */
export type SocketState = 'listening' | 'queued' | 'connected' | 'other';

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

/** One that listens. */
export type Listener = ListedSocket & { readonly state: 'listening' };

/** So much of a table is read: sockets that listen come first in those of TCP. */
const MAX_TABLE_BYTES = 2 ** 20;

const TCP_STATES: Readonly<Record<string, SocketState>> = { '0A': 'listening', '01': 'connected' };

/** `__SO_ACCEPTCON` among the flags of a unix socket. */
const UNIX_LISTENS = 0x10000;

/** States of a unix socket: SS_CONNECTING is what a listed one has until it is accepted. */
const UNIX_STATES: Readonly<Record<string, SocketState>> = { '02': 'queued', '03': 'connected' };

/** Those of the network namespace of this process that listen; what cannot be read, also because `isOver`, is left out. */
export async function findListeners(procPath: string, isOver: () => boolean): Promise<Listener[]> {
  return (await findSockets(procPath, isOver)).filter((socket) => socket.state === 'listening') as Listener[];
}

/** All of them that have an address or a path; as {@link findListeners}. */
export async function findSockets(procPath: string, isOver: () => boolean): Promise<ListedSocket[]> {
  const tables = { tcp: parseTcpLine, tcp6: parseTcpLine, unix: parseUnixLine };
  const found = await Promise.all(
    Object.entries(tables).map(async ([name, parse]) =>
      (await readTable(`${procPath}/net/${name}`, isOver)).split('\n').map(parse),
    ),
  );
  return found.flat().filter((socket) => socket !== null);
}

async function readTable(path: string, isOver: () => boolean): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    const stream = (await fs.open(path)).createReadStream({ end: MAX_TABLE_BYTES });
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

/** The sockets of this machine that listen, as Linux lists them in /proc/net. */
import fs from 'node:fs/promises';
import type { HostPort } from './host-port.js';

/** A socket that listens: on a TCP address or on the path of a unix socket, of which the other one is null. */
export interface Listener {
  readonly inode: string;
  readonly address: HostPort | null;
  readonly path: string | null;
  /** Whose it is; null where that is not listed. */
  readonly userId: number | null;
}

/** So much of a table is read: sockets that listen come first in those of TCP. */
const MAX_TABLE_BYTES = 2 ** 20;

const TCP_LISTEN = '0A';

/** `__SO_ACCEPTCON` among the flags of a unix socket. */
const UNIX_LISTENS = 0x10000;

/** Those of the network namespace of this process; what cannot be read, also because `isOver`, is left out. */
export async function findListeners(procPath: string, isOver: () => boolean): Promise<Listener[]> {
  const tables = { tcp: parseTcpLine, tcp6: parseTcpLine, unix: parseUnixLine };
  const found = await Promise.all(
    Object.entries(tables).map(async ([name, parse]) =>
      (await readTable(`${procPath}/net/${name}`, isOver)).split('\n').map(parse),
    ),
  );
  return found.flat().filter((listener) => listener !== null);
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
function parseTcpLine(line: string): Listener | null {
  const [, local = '', , state, , , , uid = '', , inode = ''] = line.trim().split(/\s+/);
  const [, hex = '', port = ''] = /^((?:[0-9A-F]{8}){1,4}):([0-9A-F]{4})$/.exec(local) ?? [];
  if (state !== TCP_LISTEN || hex === '') return null;
  const address = { host: parseHexAddress(hex), port: Number.parseInt(port, 16) };
  return { inode, address, path: null, userId: /^\d+$/.test(uid) ? Number(uid) : null };
}

/** `Num: RefCount Protocol Flags Type St Inode Path` */
function parseUnixLine(line: string): Listener | null {
  const [, flags = '', inode = '', path = ''] = /^\S+: \S+ \S+ ([0-9A-F]+) \S+ \S+ +(\d+) (.+)$/.exec(line) ?? [];
  if (path === '' || (Number.parseInt(flags, 16) & UNIX_LISTENS) === 0) return null;
  return { inode, address: null, path, userId: null };
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

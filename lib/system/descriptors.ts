/** Descriptors of the process: the last ones, reserved for some uses, and those handed to a successor. */

import fs from 'node:fs';
import type net from 'node:net';
import { promisify } from 'node:util';
import { describeError } from '../util/escape.js';
import { listFolder, readText } from './files/optional-files.js';
import { loadLibc } from './libc.js';
import { descriptorOf } from './sockets/node-sockets.js';

// Handing descriptors to a successor.

/** Passes a duplicate of a descriptor to the successor; returns the index under which the successor finds it, from 0. */
export type KeepDescriptor = (fd: number) => number;

/** In the successor: takes the descriptor kept under an index, closed on exec; the caller owns it. Again only to close it. */
export type TakeDescriptor = (index: number) => number;

// The last descriptors: a log file, a look-up or a child may need some briefly, and so may the channel and the operator.

/** The number of descriptors held in reserve; an eighth of a small limit. */
const MAX_SPARE = 32;

/** A use must leave free the reserve divided by this: streams of a peer, links opened by peers, and control requests. */
const LEAVES = { ordinary: 1, channel: 2, operator: 8 } as const;

export type DescriptorUse = keyof typeof LEAVES;

/** `ulimit -n` as last read; null before the first read, or if the system does not report it. */
let limit: number | null = null;

/**
 * Null, or the human-readable reason why `socket`, which has just connected or been accepted, must be closed: its descriptor is
 * in the reserve that its use leaves free. With none left, the event loop would silently close incoming connections.
 *
 * The system assigns the lowest free number, so the number alone tells how many are left, without a system call.
 */
export function descriptorShortage(socket: net.Socket, use: DescriptorUse = 'ordinary'): string | null {
  return shortageAt(descriptorOf(socket), use);
}

/** The same, by descriptor number; null if it is unknown. */
export function shortageAt(fd: number | null, use: DescriptorUse = 'ordinary'): string | null {
  if (fd === null) return null;
  limit ??= descriptorLimit();
  if (isFree(fd, use)) return null;
  // The limit may have been raised meanwhile (prlimit).
  limit = descriptorLimit() ?? limit;
  return isFree(fd, use) ? null : `EMFILE: too many open files (max ${limit ?? 0})`;
}

function isFree(fd: number, use: DescriptorUse): boolean {
  return limit === null || fd < limit - Math.ceil(Math.min(MAX_SPARE, limit >> 3) / LEAVES[use]);
}

/**
 * Calls `onShortage`, which closes the socket, if a connecting socket got a reserved descriptor. Checked before the connection
 * is made: targets that do not answer would take them all.
 */
export function guardDescriptor(socket: net.Socket, onShortage: (why: string) => void): void {
  const check = (): void => {
    const why = socket.destroyed ? null : descriptorShortage(socket);
    if (why !== null) onShortage(why);
  };
  // A unix socket has its descriptor now, an address gets one in the next tick, each address of a name when it is tried.
  process.nextTick(check);
  socket.on('connectionAttempt', () => process.nextTick(check));
}

/** Like `shortageAt`, for the next `count` descriptors to be opened in this turn. */
export function shortageOfNext(count: number): string | null {
  try {
    const fd = fs.openSync('/dev/null', 'r');
    fs.closeSync(fd);
    return shortageAt(fd + count - 1);
  } catch (error) {
    return describeError(error);
  }
}

const open = promisify(fs.open);
const close = promisify(fs.close);

const { O_CREAT, O_TRUNC } = fs.constants;

/** Like `fs.open`, for files opened on behalf of peers. Also rejects if the descriptor is a reserved one. */
export async function openOrdinary(path: string | Buffer, flags: number, mode?: number): Promise<number> {
  // Before anything is made or emptied.
  let shortage = (flags & (O_CREAT | O_TRUNC)) === 0 ? null : shortageOfNext(1);
  if (shortage === null) {
    const fd = await open(path, flags, mode);
    shortage = shortageAt(fd);
    if (shortage === null) return fd;
    await close(fd);
  }
  throw Object.assign(new Error(shortage), { code: 'EMFILE' });
}

const O_CLOEXEC = 0o2000000;
const [F_SETFD, FD_CLOEXEC] = [2, 1];

/** Keeps what the starter of this process left open from its children; Node does so up to the first gap above 15. Needs koffi. */
export async function closeInheritedOnExec(): Promise<void> {
  const inherited = (listFolder('/proc/self/fd') ?? []).map(Number).filter((fd) => {
    const [, flags] = /^flags:\t(\d+)$/m.exec(readText(`/proc/self/fdinfo/${fd}`)) ?? [];
    return fd > 2 && flags !== undefined && (Number.parseInt(flags, 8) & O_CLOEXEC) === 0;
  });
  if (inherited.length === 0) return;
  const libc = await loadLibc().catch(() => null);
  const fcntl = libc?.declare('int fcntl(int fd, int command, int flags)');
  for (const fd of inherited) fcntl?.(fd, F_SETFD, FD_CLOEXEC);
}

/** The number of open descriptors of this process; null if the system does not tell. */
export function countDescriptors(): number | null {
  try {
    // Linux 6.2 and newer report the number as the size of the folder.
    const { size } = fs.statSync('/proc/self/fd');
    return size > 0 ? size : fs.readdirSync('/proc/self/fd').length - 1;
  } catch {
    return null;
  }
}

/** The limit on them (`ulimit -n`); null if unlimited or unknown. */
export function descriptorLimit(): number | null {
  const [, digits] = /^Max open files +(\d+)/m.exec(readText('/proc/self/limits')) ?? [];
  return digits === undefined ? null : Number(digits);
}

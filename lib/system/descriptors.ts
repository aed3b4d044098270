/** Descriptors of the process: the last ones, which only some uses get, and those that a successor gets. */

import fs from 'node:fs';
import type net from 'node:net';
import { promisify } from 'node:util';
import { describeError } from '../util/escape.js';
import { readText } from './files/optional-files.js';
import { descriptorOf } from './sockets/node-sockets.js';

// Handing descriptors over to a successor.

/** Has the successor get a duplicate of a descriptor; gives the number under which it finds that, from 0 on. */
export type KeepDescriptor = (fd: number) => number;

/** The successor's side: the descriptor that was kept under a number; it is the caller's, closed on exec. Called once for each. */
export type TakeDescriptor = (index: number) => number;

// The last descriptors: a log file, a look-up or a child may need some for a moment, the channel one, the operator another.

/** The number of descriptors that are kept back; of a small limit, an eighth. */
const MAX_SPARE = 32;

/** Which part of the last descriptors a use leaves alone: what a peer opens, links that peers open, and control requests. */
const LEAVES = { ordinary: 1, channel: 2, operator: 8 } as const;

/** What a descriptor is for. */
export type DescriptorUse = keyof typeof LEAVES;

/** What `ulimit -n` was when it was looked at last; null before, and where the system does not tell it. */
let limit: number | null = null;

/**
 * Null, or, human-readable, why `socket`, which was just connected or accepted, must be closed: its descriptor is one of
 * those that such a use leaves alone. When none is left the event loop closes what comes, and tells nothing.
 *
 * The system gives out the lowest number that is free, so the number alone says how many are left: no call is made.
 */
export function descriptorShortage(socket: net.Socket, use: DescriptorUse = 'ordinary'): string | null {
  return shortageAt(descriptorOf(socket), use);
}

/** The same by the number of a descriptor; null: it is not known. */
export function shortageAt(fd: number | null, use: DescriptorUse = 'ordinary'): string | null {
  if (fd === null) return null;
  limit ??= readLimit();
  if (isFree(fd, use)) return null;
  // It may have been raised meanwhile (prlimit).
  limit = readLimit() ?? limit;
  return isFree(fd, use) ? null : `EMFILE: too many open files, of ${limit ?? 0} that this process may have`;
}

function isFree(fd: number, use: DescriptorUse): boolean {
  return limit === null || fd < limit - Math.ceil(Math.min(MAX_SPARE, limit >> 3) / LEAVES[use]);
}

/**
 * Calls `onShortage`, which closes the socket, where a socket that begins to connect got one of the last descriptors. It is
 * asked before it is connected: targets that do not answer would take all of them.
 */
export function guardDescriptor(socket: net.Socket, onShortage: (why: string) => void): void {
  const check = (): void => {
    const why = socket.destroyed ? null : descriptorShortage(socket);
    if (why !== null) onShortage(why);
  };
  // A unix socket has its descriptor now, an address in the next tick, each address of a name when it is tried.
  process.nextTick(check);
  socket.on('connectionAttempt', () => process.nextTick(check));
}

/** As `shortageAt`, before `count` descriptors are taken in this turn. */
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

/** As `fs.open`, for files that peers have opened. Rejects where the descriptor is one of the last, too. */
export async function openOrdinary(path: string, flags: number, mode?: number): Promise<number> {
  const fd = await open(path, flags, mode);
  const shortage = shortageAt(fd);
  if (shortage === null) return fd;
  await close(fd);
  throw Object.assign(new Error(shortage), { code: 'EMFILE' });
}

function readLimit(): number | null {
  const [, digits] = /^Max open files +(\d+)/m.exec(readText('/proc/self/limits')) ?? [];
  return digits === undefined ? null : Number(digits);
}

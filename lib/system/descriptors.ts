/** Descriptors of the process: the last ones, which connections do not get, and those that a successor gets. */

import { readFileSync } from 'node:fs';
import type net from 'node:net';

// Handing descriptors over to a successor.

/** Has the successor get a duplicate of a descriptor; gives the number under which it finds that, from 0 on. */
export type KeepDescriptor = (fd: number) => number;

/** The successor's side: the descriptor that was kept under a number; it is the caller's, closed on exec. Called once for each. */
export type TakeDescriptor = (index: number) => number;

// The last descriptors, which connections do not get: the channel, a log file or a child may need them.

/** The number of descriptors that are kept back; of a small limit, an eighth. */
const MAX_SPARE = 16;

/** What `ulimit -n` was when it was looked at last; null before, and where the system does not tell it. */
let limit: number | null = null;

/**
 * Null, or, as a line for people, why `socket`, which has just been connected or accepted, must be closed: its descriptor
 * is one of the last. The event loop would close what comes when none is left, and tell nothing.
 *
 * The system gives out the lowest number that is free, so the number alone says how many are left: no call is made.
 */
export function descriptorShortage(socket: net.Socket & { readonly _handle?: unknown }): string | null {
  return shortageAt(numberOf(socket._handle));
}

/** The same for a socket of another kind, by the number of its descriptor; null: it is not known. */
export function shortageAt(fd: number | null): string | null {
  if (fd === null) return null;
  limit ??= readLimit();
  if (isOrdinary(fd)) return null;
  // It may have been raised meanwhile (prlimit).
  limit = readLimit() ?? limit;
  return isOrdinary(fd) ? null : `EMFILE: too many open files, of ${limit ?? 0} that this process may have`;
}

function isOrdinary(fd: number): boolean {
  return limit === null || fd < limit - Math.min(MAX_SPARE, limit >> 3);
}

/** The descriptor of a handle of Node; null where Node is not made as expected. */
function numberOf(handle: unknown): number | null {
  if (typeof handle !== 'object' || handle === null || !('fd' in handle)) return null;
  return typeof handle.fd === 'number' ? handle.fd : null;
}

function readLimit(): number | null {
  try {
    const [, digits] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    return digits === undefined ? null : Number(digits);
  } catch {
    return null;
  }
}

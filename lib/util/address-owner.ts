/** Who has an address that is taken: from Linux' /proc, as far as this user may look there. */
import fs from 'node:fs/promises';
import { escapeText } from './escape.js';
import { addressesOverlap, type HostPort } from './host-port.js';
import { findListeners, type Listener } from './proc-net.js';

export interface AddressOwnerOptions {
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

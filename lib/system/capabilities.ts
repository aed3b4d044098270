/**
 * Withholds this process's ambient capabilities (capabilities(7)), which a service manager gave to it, from the processes that it
 * starts, through the optional package koffi.
 */
import { readText } from './files/optional-files.js';
import { loadLibc, type NativeCall } from './libc.js';

/** From <linux/capability.h> and <linux/prctl.h>. */
const VERSION_3 = 0x2008_0522;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_RAISE = 2;

let calls: Readonly<Record<'capget' | 'capset' | 'prctl', NativeCall>> | null = null;

/** Call before the first process is started. False if this process has such capabilities and cannot withhold them. */
export async function keepCapabilities(): Promise<boolean> {
  const hasAny = () => /^Cap(?:Inh|Amb):\s*0*[1-9a-f]/m.test(readText('/proc/self/status'));
  if (!hasAny()) return true;
  try {
    const libc = await loadLibc();
    calls = {
      capget: libc.declare('int capget(void *header, void *sets)'),
      capset: libc.declare('int capset(void *header, void *sets)'),
      prctl: libc.declare('int prctl(int option, ulong two, ulong three, ulong four, ulong five)'),
    };
    give(false);
  } catch {
    // Without koffi.
  }
  return !hasAny();
}

/** Whether there are such capabilities: what runs with them must not be what a command of this user has put there. */
export const withholdsCapabilities = (): boolean => calls !== null;

/** Sets the inheritable set of the main thread, which starts all processes; ambient capabilities outside it are dropped. */
function give(isGiven: boolean): void {
  if (calls === null) return;
  const header = Buffer.from(new Uint32Array([VERSION_3, 0]).buffer);
  // Effective, permitted and inheritable, for the numbers below 32, then for the others.
  const sets = new Uint32Array(6);
  const bytes = Buffer.from(sets.buffer);
  calls.capget(header, bytes);
  for (const [first, permitted = 0] of [sets[1], sets[4]].entries()) sets[3 * first + 2] = isGiven ? permitted : 0;
  calls.capset(header, bytes);
  for (let number = 0; number < 64 && isGiven; number += 1)
    if (((sets[number < 32 ? 2 : 5] ?? 0) >>> (number & 31)) & 1)
      calls.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0);
}

/** Calls `start`, which starts a process synchronously, with the capabilities that {@link keepCapabilities} withholds. */
export function withCapabilities<T>(start: () => T): T {
  give(true);
  try {
    return start();
  } finally {
    give(false);
  }
}

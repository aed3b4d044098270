/**
 * Capabilities that a service manager gave to this process, ambient ones, would reach each process that it starts: capabilities(7).
 * They are kept from those, by calls through the optional package koffi.
 */
import { readText } from './files/optional-files.js';
import { loadLibc, type NativeCall, systemError } from './libc.js';

/** From <linux/capability.h> and <linux/prctl.h>. */
const VERSION_3 = 0x2008_0522;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_RAISE = 2;

/** Two words of bits for each of: effective, permitted, inheritable. */
const SET = { permitted: [4, 16], inheritable: [8, 20], bytes: 24 } as const;

/** Sets the inheritable set of the main thread, which starts all processes: no ambient one is left outside of it. */
let setInheritable: ((isGiven: boolean) => void) | null = null;

/** Call it before the first process is started. False if this process has such capabilities and cannot keep them. */
export async function keepCapabilities(): Promise<boolean> {
  const hasAny = () => /^Cap(?:Inh|Amb):\s*0*[1-9a-f]/m.test(readText('/proc/self/status'));
  if (!hasAny()) return true;
  try {
    const libc = await loadLibc();
    const capset = libc.declare('int capset(void *header, void *sets)');
    const capget = libc.declare('int capget(void *header, void *sets)');
    const prctl = libc.declare('int prctl(int option, ulong two, ulong three, ulong four, ulong five)');
    setInheritable = (isGiven) => give(isGiven, { capget, capset, prctl, errno: () => libc.errno() });
    setInheritable(false);
  } catch {
    setInheritable = null;
  }
  return !hasAny();
}

interface CapabilityCalls {
  readonly capget: NativeCall;
  readonly capset: NativeCall;
  readonly prctl: NativeCall;
  readonly errno: () => number;
}

function give(isGiven: boolean, { capget, capset, prctl, errno }: CapabilityCalls): void {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(VERSION_3);
  const sets = Buffer.alloc(SET.bytes);
  if (capget(header, sets) !== 0) throw systemError('capget', errno());
  const words = SET.permitted.map((at) => (isGiven ? sets.readUInt32LE(at) : 0));
  for (const [index, at] of SET.inheritable.entries()) sets.writeUInt32LE(words[index] ?? 0, at);
  if (capset(header, sets) !== 0) throw systemError('capset', errno());
  for (let number = 0; number < 64; number += 1)
    if (((words[number >> 5] ?? 0) >>> (number & 31)) & 1) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0);
}

/** Has `start` start a process, at once, that gets what {@link keepCapabilities} keeps from others. */
export function withCapabilities<T>(start: () => T): T {
  setInheritable?.(true);
  try {
    return start();
  } finally {
    setInheritable?.(false);
  }
}

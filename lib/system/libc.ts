/** Functions of the system's C library, through the optional package koffi: for the few that Node has no name for. */

import { getSystemErrorName } from 'node:util';

/** A function; its arguments and its result are numbers, buffers and texts, as its declaration says. */
export type NativeCall = (...args: unknown[]) => number;

export interface Libc {
  /** The function that a declaration in C names. Throws where the library has no such function. */
  declare(declaration: string): NativeCall;
  /** The number of the error of the last call that failed. */
  errno(): number;
  /** Where the bytes of a buffer are, for a structure that points to them; the caller keeps the buffer as long as that is used. */
  address(bytes: Uint8Array): bigint;
}

/** The error of `number` (positive, as in errno) in `call`, with a `code` as Node's own errors have it. */
export function systemError(call: string, number: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(-number);
  return Object.assign(new Error(`${call}: ${code}`), { code, errno: -number, syscall: call });
}

/** What is used of koffi. */
export interface Koffi {
  load(path: null): { func(declaration: string): NativeCall };
  errno(): number;
  address(bytes: Uint8Array): bigint;
}

/** How koffi is loaded. */
let loadKoffi = importKoffi;

/** For a program that has koffi within itself: has it loaded in another way than by its name. To be called before `loadLibc`. */
export function loadKoffiBy(load: () => Promise<Koffi>): void {
  loadKoffi = load;
}

let loading: Promise<Libc> | null = null;

/**
 * Loads it, which takes 10 ms once in a process: from then on its files may go. Rejects as `import` does where koffi is
 * missing.
 */
export function loadLibc(): Promise<Libc> {
  loading ??= load().catch((error: unknown) => {
    loading = null;
    throw error;
  });
  return loading;
}

async function importKoffi(): Promise<Koffi> {
  // Not a literal: neither the build nor its types need a package that may be absent.
  const name: string = 'koffi';
  return ((await import(name)) as { readonly default: Koffi }).default;
}

async function load(): Promise<Libc> {
  const koffi = await loadKoffi();
  const libc = koffi.load(null);
  return {
    declare: (declaration) => libc.func(declaration),
    errno: () => koffi.errno(),
    address: (bytes) => koffi.address(bytes),
  };
}

/** Functions of the C library that Node does not offer, through the optional package koffi. */

import { getSystemErrorName } from 'node:util';

/** A function; its arguments and result are numbers, buffers and texts, as declared. */
export type NativeCall = (...args: unknown[]) => number;

export interface Libc {
  /** The function that a C declaration names. Throws if the library lacks it. */
  declare(declaration: string): NativeCall;
  /** The errno of the last failed call. */
  errno(): number;
  /** The address of a buffer, for a structure that points to it; the caller must keep the buffer alive meanwhile. */
  address(bytes: Uint8Array): bigint;
}

/** An error like Node's own, with a `code`, for an errno (positive) of `call`. */
export function systemError(call: string, number: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(-number);
  return Object.assign(new Error(`${call}: ${code}`), { code, errno: -number, syscall: call });
}

/** The part of koffi used here. */
export interface Koffi {
  load(path: null): { func(declaration: string): NativeCall };
  errno(): number;
  address(bytes: Uint8Array): bigint;
}

/** How koffi is loaded. */
let loadKoffi = importKoffi;

/** For a program that embeds koffi: replaces how it is loaded. Call it before `loadLibc`. */
export function loadKoffiBy(load: () => Promise<Koffi>): void {
  loadKoffi = load;
}

let loading: Promise<Libc> | null = null;

/** Loads the library, once per process (10 ms); its files may be removed then. Rejects like `import` if koffi is missing. */
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

/** Functions of the system's C library, through the optional package koffi: for the few that Node has no name for. */

/** A function; its arguments and its result are numbers, buffers and texts, as its declaration says. */
export type NativeCall = (...args: unknown[]) => number;

export interface Libc {
  /** The function that a declaration in C names. Throws where the library has no such function. */
  declare(declaration: string): NativeCall;
  /** The number of the error of the last call that failed. */
  errno(): number;
}

/** What is used of koffi. */
interface Koffi {
  load(path: null): { func(declaration: string): NativeCall };
  errno(): number;
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

async function load(): Promise<Libc> {
  // Not a literal: neither the build nor its types need a package that may be absent.
  const name: string = 'koffi';
  const { default: koffi } = (await import(name)) as { readonly default: Koffi };
  const libc = koffi.load(null);
  return { declare: (declaration) => libc.func(declaration), errno: () => koffi.errno() };
}

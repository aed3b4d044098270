/** Functions of the system's C library, through the optional package koffi: for the few that Node has no name for. */

/** A function; its arguments and its result are numbers, buffers and texts, as its declaration says. */
export type NativeCall = (...args: unknown[]) => number;

/** The C library. */
export interface Libc {
  /** The function that a declaration in C names. Throws where there is none. */
  declare(declaration: string): NativeCall;
  /** The number of the error of the last call that failed. */
  errno(): number;
}

/** What is used of koffi. */
interface Koffi {
  load(path: null): { func(declaration: string): NativeCall };
  errno(): number;
}

/** Loads it, which takes 10 ms once in a process. Rejects as `import` does where koffi is missing. */
export async function loadLibc(): Promise<Libc> {
  // Not a literal: neither the build nor its types need a package that may be absent.
  const name: string = 'koffi';
  const { default: koffi } = (await import(name)) as { readonly default: Koffi };
  const libc = koffi.load(null);
  return { declare: (declaration) => libc.func(declaration), errno: () => koffi.errno() };
}

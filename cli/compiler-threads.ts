/** Restricts V8's compiler threads, so that the process can exit. Every process but the storage wrapper starts with this. */

/** The versions of Node whose V8 needs these flags and is known to have them: others would print a warning to stderr. */
const FIRST_MAJOR = 22;
const LAST_MAJOR = 26;

/**
 * Those of Maglev in this order, and all in one call: between two calls V8 may finish an earlier compilation, and with only the
 * second of them set it takes deoptimization data from the thread that did not produce any, and crashes.
 */
const FLAGS = '--no-maglev-deopt-data-on-background --no-maglev-build-code-on-background --no-concurrent-sparkplug';

/**
 * Keeps the threads of V8's compilers Maglev and Sparkplug from allocating on the heap. Otherwise the process may hang on exit:
 * Node waits for these threads, and such a thread may wait for a collection, which only the exiting thread could do
 * (docs/decisions/0024-compiler-threads-and-the-heap.md). Call it once, at the start.
 */
export function keepThreadsFromHeap(): void {
  const major = Number.parseInt(process.versions.node, 10);
  if (major < FIRST_MAJOR || major > LAST_MAJOR) return;
  process.getBuiltinModule('node:v8').setFlagsFromString(FLAGS);
}

/** What threads of V8's compiler may do, so that a process ends. Every process begins with this: it loads as little as it can. */

/** The versions of Node whose V8 has Maglev, and is known to have these flags: any other would write a complaint to stderr. */
const FIRST_MAJOR = 22;
const LAST_MAJOR = 26;

/**
 * In this order, and in one call: V8 may finish what it compiled before between two of them, and where the second flag is
 * set alone, it takes deoptimization data from the thread that did not make any, and ends the process.
 */
const FLAGS = '--no-maglev-deopt-data-on-background --no-maglev-build-code-on-background';

/**
 * Has V8's compiler Maglev allocate nothing of the heap in its threads. Otherwise the process may never end: Node waits for
 * these threads, and such a thread may wait for a collection, which only the ending thread could do
 * (docs/decisions/0024-an-end-that-comes.md). Called once, at the start.
 */
export function keepThreadsFromHeap(): void {
  const major = Number.parseInt(process.versions.node, 10);
  if (major < FIRST_MAJOR || major > LAST_MAJOR) return;
  process.getBuiltinModule('node:v8').setFlagsFromString(FLAGS);
}

/**
 * Writes of this process to files and to its log, which wait while file systems are frozen: a thread that writes to one could
 * not even be killed.
 */
import { deferred } from '../../util/concurrency.js';

let held: ReturnType<typeof deferred<void>> | null = null;

/** Holds what is written from now on. Standard error keeps its lines as for a slow reader. */
export function holdWrites(): void {
  if (held !== null) return;
  held = deferred();
  process.stderr.cork();
}

export function releaseWrites(): void {
  if (held === null) return;
  held.resolve();
  held = null;
  process.stderr.uncork();
}

/** Resolves when writes are not held. */
export const writesAllowed = async (): Promise<void> => held?.promise;

/** What every command has in common that was started as a child process. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** A child that runs. Rejects with the error of the system where it could not be started. */
export async function spawned<C extends ChildProcess>(child: C): Promise<C> {
  if (child.pid === undefined) throw ((await once(child, 'error')) as [Error])[0];
  // Node keeps them for as long as the child is known, and a caller chooses them: up to a megabyte.
  child.spawnargs.length = 0;
  return child;
}

/** Where a program is that was called by a name. */
import { accessSync, constants } from 'node:fs';
import { resolve } from 'node:path';

/**
 * The absolute path of the program that `called` means: seen from the working folder where it has a slash, else the first
 * in the folders of `searchPath` (as in `$PATH`). No link is followed. What is found nowhere comes back as it is.
 */
export function findProgram(called: string, searchPath = ''): string {
  if (called.includes('/')) return resolve(called);
  const found = searchPath.split(':').find((folder) => isExecutable(resolve(folder, called)));
  return found === undefined ? called : resolve(found, called);
}

/** Whether this process may run what a path names. */
export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

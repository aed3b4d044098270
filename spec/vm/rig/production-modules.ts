/** Which packages of node_modules vproxy needs to run, as the lock file says. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface LockFile {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly optional?: boolean }>>;
}

/**
 * The folders of the run-time dependencies, seen from the project's folder: `node_modules/yargs`, …; of the optional ones
 * only those that are installed.
 */
export function listProductionModules(projectRoot: string): string[] {
  const lock = JSON.parse(readFileSync(join(projectRoot, 'package-lock.json'), 'utf8')) as LockFile;
  return Object.entries(lock.packages)
    .filter(([path, entry]) => path !== '' && entry.dev !== true)
    .filter(([path, entry]) => entry.optional !== true || existsSync(join(projectRoot, path)))
    .map(([path]) => path);
}

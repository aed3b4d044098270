// The libraries of an executable on this machine, and the Debian packages that they are from.
import { spawnSync } from 'node:child_process';

/** Returns the paths of the executable's libraries, including its loader. Throws an Error with one line. */
export function listLibraries(executable) {
  const { status, stdout, stderr } = spawnSync('ldd', [executable], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ldd ${executable}: ${stderr.trim() || 'it is not for this machine'}`);
  const missing = /^\s*(\S+) => not found/m.exec(stdout)?.[1];
  if (missing !== undefined) throw new Error(`${executable} needs ${missing}, which is not there`);
  return [...stdout.matchAll(/(?<=\s)\/\S+/g)].map(([path]) => path);
}

/** Returns the names of the packages that have the files; none where dpkg does not know them. */
export function listPackages(paths) {
  // The package may have a file of /lib in /usr/lib.
  const patterns = paths.map((path) => `*${path}`);
  const owners = spawnSync('dpkg-query', ['--search', ...patterns], { encoding: 'utf8' }).stdout ?? '';
  return [...new Set([...owners.matchAll(/^([^:,\s]+)/gm)].map(([, name]) => name))].sort();
}

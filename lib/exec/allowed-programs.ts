/** Which programs may be run, where not all of them may. */
import { realpath } from 'node:fs/promises';
import path from 'node:path';

/** The programs that a caller may run: any, or exactly these, by their absolute paths. */
export interface ExecRules {
  /** `any`, or absolute paths. */
  readonly commands: 'any' | readonly string[];
}

/**
 * The entry of a list that a path names, or null. Folders may be links (`/bin` to `/usr/bin`); the last name has to be
 * that of the entry, for many programs are links to one file that looks at the name by which it is called (busybox), and
 * to allow one of them is not to allow all. What is to be run is the entry, not the path: nobody can put another program
 * in its place between the look and the run.
 */
export async function findEntry(entries: readonly string[], file: string): Promise<string | null> {
  if (entries.includes(file)) return file;
  const place = await placeOf(file);
  if (place === null) return null;
  for (const entry of entries) {
    if ((await placeOf(entry)) === place) return entry;
  }
  return null;
}

/** The path with every link in its folders followed, and none at its end. */
async function placeOf(file: string): Promise<string | null> {
  try {
    return `${await realpath(path.dirname(file))}/${path.basename(file)}`;
  } catch {
    return null;
  }
}

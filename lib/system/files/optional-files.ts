/** Files and folders that need not be there, or that this user may not read. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** The text of a file; empty where it cannot be read. */
export const readText = (path: string): string => orElse('', () => readFileSync(path, 'utf8'));

/** The names in a folder, in no order; null where it cannot be read. */
export const listFolder = (folder: string): string[] | null => orElse(null, () => readdirSync(folder));

/** What a symbolic link says; null for all else. */
export const linkTarget = (path: string): string | null => orElse(null, () => readlinkSync(path));

function orElse<T>(otherwise: T, read: () => T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

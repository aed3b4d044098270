/** What is in a folder that need not be there. */
import { readdirSync } from 'node:fs';

/** The names in it, in no order; null where it cannot be read. */
export function listFolder(folder: string): string[] | null {
  try {
    return readdirSync(folder);
  } catch {
    return null;
  }
}

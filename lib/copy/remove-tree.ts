/** Removing what a copy has left, also folders that their owner may not write to. */
import { chmod, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../errors.js';

/** Removes a file, a link or a folder with all that is in it; nothing is done where there is nothing. */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    if (systemCode(error) !== 'EACCES') throw error;
    await openFolders(path);
    await rm(path, { recursive: true, force: true });
  }
}

async function openFolders(folder: string): Promise<void> {
  await chmod(folder, 0o700);
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await openFolders(join(folder, entry.name));
  }
}

/** Removes what is left of a copy. */
import { chmod, lstat, rmdir, unlink } from 'node:fs/promises';
import { systemCode, VproxyError } from '../../../errors.js';
import { Turns } from '../../../util/concurrency.js';
import { FolderStack, nameOf, readAny } from '../folders.js';
import { entryPath, HeldFolder } from './held-folder.js';

const MAX_REMOVALS = 8;

/**
 * Removes a file, a link, or a folder with its contents, including folders that their owner may not write to. Removes entries as
 * it reads them, holding only part of the names. Does nothing if the path does not exist.
 */
export async function removeTree(path: string | Buffer): Promise<void> {
  const stats = await orMissing(lstat(path));
  if (stats?.isDirectory() !== true) {
    if (stats !== null) await orMissing(unlink(path));
    return;
  }
  const folder = await orMissing(HeldFolder.open(path));
  if (folder === null) return;
  const removal = new Turns(MAX_REMOVALS);
  try {
    await removeContents(folder, removal, () => removeEmpty(path));
  } finally {
    await removal.idle();
    await folder.close();
  }
}

/** Enters and leaves folders only while nothing is being removed, which needs the innermost folder's descriptor. */
async function removeContents(held: HeldFolder, removal: Turns, removeTop: () => Promise<boolean>): Promise<void> {
  const folders = new FolderStack(readAny);
  const names: (string | Buffer)[] = [];
  const failures: unknown[] = [];
  const remove = (name: string | Buffer): Promise<void> =>
    inWritable(held, () => orMissing(unlink(entryPath(held.path, name)))).then(
      () => undefined,
      (error: unknown) => void failures.push(error),
    );
  const down = async (name: string | Buffer): Promise<void> => {
    await inWritable(held, () => held.down(name));
    names.push(name);
  };
  /** Removes the innermost folder, unless something has been added to it. */
  const leave = async (): Promise<boolean> => {
    const name = names.pop();
    if (name === undefined) return removeTop();
    await inWritable(held, () => held.up());
    if (await inWritable(held, () => removeEmpty(entryPath(held.path, name)))) return true;
    await down(name);
    return false;
  };
  folders.push(held.path);
  while (folders.depth > 0) {
    const item = await inWritable(held, () => folders.next());
    if (item !== null && item.kind !== 'folder') {
      await removal.start(() => remove(nameOf(item)));
      continue;
    }
    await removal.idle();
    if (failures.length > 0) throw failures[0];
    if (item !== null) {
      await down(nameOf(item));
      folders.push(held.path);
    } else if (await leave()) folders.pop(held.path);
    else if (!folders.reread(held.path)) throw new VproxyError('copy-failed', 'a folder cannot be emptied');
  }
}

/** Removes a folder. False if it is not empty. */
async function removeEmpty(folder: string | Buffer): Promise<boolean> {
  try {
    await orMissing(rmdir(folder));
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOTEMPTY' || systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

/** Runs an operation in a folder; if permission is denied, once more after making the folder writable. */
async function inWritable<T>(folder: HeldFolder, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (systemCode(error) !== 'EACCES') throw error;
    await chmod(folder.path, 0o700);
    return work();
  }
}

/** Resolves with null on ENOENT. */
async function orMissing<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw error;
  }
}

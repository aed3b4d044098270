/** The last step of a copy: what is complete gets into its place. */
import { chmod, lstat, readdir, rmdir, utimes } from 'node:fs/promises';
import { copyError } from './copy-error.js';
import { type CopyFiles, secondsOf } from './system-files.js';
import { type CopyTarget, requireReplaceable, statOf } from './targets.js';

/** Whether all of a target can get into its place. Rejects with `copy-refused` where it cannot. */
export async function checkPlace({ path, stage, root }: CopyTarget): Promise<void> {
  await checkTree(stage, path, root.kind);
}

/** Puts it there: files replace files, and a folder that is there already gets what it has not. */
export async function placeTarget(target: CopyTarget, files: CopyFiles): Promise<void> {
  const { path, stage } = target;
  try {
    if (target.isMerged) await mergeFolder(stage, path, files);
    else await files.rename(stage, path);
  } catch (error) {
    throw copyError(path, error);
  }
}

async function checkTree(stage: string, path: string, kind: 'file' | 'folder' | 'link'): Promise<void> {
  const stats = await statOf(path, lstat);
  requireReplaceable(path, stats, kind);
  if (stats === null || kind !== 'folder') return;
  for (const child of await readdir(stage, { withFileTypes: true })) {
    const kindOfChild = child.isDirectory() ? 'folder' : child.isSymbolicLink() ? 'link' : 'file';
    await checkTree(`${stage}/${child.name}`, `${path}/${child.name}`, kindOfChild);
  }
}

async function mergeFolder(stage: string, path: string, files: CopyFiles): Promise<void> {
  const { mode, mtimeNs } = await lstat(stage, { bigint: true });
  await chmod(stage, 0o700);
  for (const child of await readdir(stage, { withFileTypes: true })) {
    const from = `${stage}/${child.name}`;
    const to = `${path}/${child.name}`;
    try {
      if (!child.isDirectory()) await files.rename(from, to);
      else if ((await statOf(to, lstat)) === null) await moveFolder(from, to, files);
      else await mergeFolder(from, to, files);
    } catch (error) {
      throw copyError(to, error);
    }
  }
  await rmdir(stage);
  await utimes(path, Date.now() / 1000, secondsOf(mtimeNs));
  await chmod(path, Number(mode) & 0o7777);
}

/** The system lets a folder be moved into another one only by who may write to it. */
async function moveFolder(from: string, to: string, files: CopyFiles): Promise<void> {
  const { mode } = await lstat(from);
  const isWritable = (mode & 0o200) !== 0;
  if (!isWritable) await chmod(from, 0o700);
  await files.rename(from, to);
  if (!isWritable) await chmod(to, mode & 0o7777);
}

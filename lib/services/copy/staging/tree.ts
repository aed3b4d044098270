/** The received part of a copy, staged next to its target: nothing leaves the staging folder until everything is complete. */
import type { Stats } from 'node:fs';
import { chmod, lstat, lutimes, open, rmdir, stat, unlink, utimes } from 'node:fs/promises';
import { protocolError, systemCode, VproxyError } from '../../../errors.js';
import type { Turns } from '../../../util/concurrency.js';
import { type FolderItem, FolderStack, readAny, readSorted } from '../folders.js';
import { type KeptCount, type KeptLists, keptBytes } from '../kept-list.js';
import { type CopyFiles, refused, secondsOf, withPath } from '../system-files.js';
import { type CopyEntry, requireLink } from '../tar/entry.js';
import { compareNames, MAX_PATH_BYTES, showPath } from '../tar/names.js';
import { type CopyTarget, placeOf, requireReplaceable, statOf } from '../targets.js';
import type { Place } from './file.js';
import { HeldFolder, isOwn } from './held-folder.js';
import { removeTree } from './remove.js';

/** A folder that lacks only its time and permissions. */
interface ClosedFolder extends Place {
  readonly mode: number;
  readonly mtimeNs: bigint;
}

interface OpenFolder extends ClosedFolder {
  readonly name: string;
  /** Whether a folder already exists in its place. */
  readonly isMerged: boolean;
  /** The name of the last entry: the next one must sort after it, so that nothing is sent twice. */
  lastName: string;
}

/** Limits on folders that wait for their contents to get their permissions and times; at a limit, all are completed first. */
const CLOSED = { what: 'closed folders', maxCount: 4096, maxBytes: 2_097_152 };

/** Nested folders: deeper than the system allows, with names of one letter. */
const OPEN = { what: 'nested folders', maxCount: MAX_PATH_BYTES / 2, maxBytes: 20_971_520 };

const folderBytes = ({ staged, shown }: Place): number => keptBytes(staged) + keptBytes(shown);

interface TreeOptions {
  readonly isResumed: boolean;
  readonly keepsLinks: boolean;
  readonly files: CopyFiles;
  readonly lists: KeptLists;
}

export class StagedTree {
  readonly #targets: ReadonlyMap<string, CopyTarget>;
  readonly #options: TreeOptions;
  readonly #jobs: Turns;
  readonly #open: OpenFolder[] = [];
  /** The same folders, read for leftovers of an earlier copy: whatever is not sent again is removed. */
  readonly #leftover = new FolderStack(readSorted);
  readonly #openCount: KeptCount;
  readonly #closed: ClosedFolder[] = [];
  readonly #closedCount: KeptCount;
  /** The top of the part, in a folder that others may change: it is looked up only once. */
  #top: HeldFolder | null = null;
  #lastRoot = '';
  #rootCount = 0;

  constructor(targets: readonly CopyTarget[], options: TreeOptions, jobs: Turns) {
    this.#targets = new Map(targets.map((target) => [target.root.name, target]));
    this.#options = options;
    this.#jobs = jobs;
    this.#openCount = options.lists.list(OPEN);
    this.#closedCount = options.lists.list(CLOSED);
  }

  /**
   * Finds the place of the next entry. Entries come in order, each after its folder. Rejects with `copy-refused` for an entry out
   * of order, or one that cannot be put there.
   */
  async place(entry: CopyEntry): Promise<Place> {
    const { names, kind, linkTarget } = entry;
    const name = names.at(-1) ?? '';
    await this.#closeUpTo(names);
    const folder = this.#open.at(-1);
    if (folder === undefined) return this.#placeRoot(name, kind);
    if (compareNames(name, folder.lastName) <= 0) throw refused(names.join('/'), 'sent twice or out of order');
    folder.lastName = name;
    if (this.#options.isResumed) await this.#removeLeftover(folder, () => this.#leftover.nextBefore(name));
    const place = { staged: `${folder.staged}/${name}`, shown: `${folder.shown}/${name}` };
    if (kind === 'link') requireLink(place.shown, names, linkTarget, this.#options.keepsLinks);
    if (folder.isMerged) requireReplaceable(place.shown, await statOf(place.shown, lstat), kind);
    return place;
  }

  /** Resolves with the number of the folder's inode if it is the top of a part, which keeps it for as long as the folder is open. */
  async addFolder(entry: CopyEntry, place: Place): Promise<number> {
    const { names, mode, mtimeNs } = entry;
    const isMerged =
      names.length === 1
        ? (this.#targets.get(names[0] ?? '')?.isMerged ?? false)
        : (this.#open.at(-1)?.isMerged ?? false) && (await statOf(place.shown, lstat)) !== null;
    await withPath(place.shown, () => this.#makeFolder(place.staged));
    const top = names.length > 1 ? null : await withPath(place.shown, () => openMade(place));
    if (top !== null) this.#top = top;
    const staged = top?.path ?? place.staged;
    this.#openCount.add(folderBytes({ ...place, staged }));
    this.#open.push({ ...place, staged, name: names.at(-1) ?? '', mode, mtimeNs, isMerged, lastName: '' });
    this.#leftover.push(staged);
    return top === null ? 0 : (await top.stats()).ino;
  }

  addLink({ linkTarget, mtimeNs }: CopyEntry, { staged, shown }: Place): Promise<void> {
    return withPath(shown, async () => {
      if (this.#options.isResumed) await removeTree(staged);
      await this.#options.files.symlink(linkTarget, staged);
      await lutimes(staged, Date.now() / 1000, secondsOf(mtimeNs));
    });
  }

  /** Call after the last entry. Rejects with `protocol-error` if something is missing. */
  async finish(): Promise<void> {
    await this.#closeUpTo([]);
    await this.#jobs.idle();
    await this.#settleClosed();
    await this.close();
    if (this.#rootCount < this.#targets.size) throw protocolError('copy: some announced files were not sent');
  }

  /** Call it once nothing is being written. */
  async close(): Promise<void> {
    const top = this.#top;
    this.#top = null;
    await top?.close();
  }

  #placeRoot(name: string, kind: CopyEntry['kind']): Place {
    const target = this.#targets.get(name);
    if (target === undefined || kind !== target.root.kind) throw refused(name, 'not announced');
    if (this.#rootCount > 0 && compareNames(name, this.#lastRoot) <= 0) throw refused(name, 'sent twice');
    this.#lastRoot = name;
    this.#rootCount += 1;
    return { staged: target.stage, shown: target.path };
  }

  /** Closes the folders that do not contain an entry of these names. */
  async #closeUpTo(names: readonly string[]): Promise<void> {
    const depth = Math.max(0, names.length - 1);
    while (this.#open.length > depth) await this.#closeLast();
    if (this.#open.length < depth || this.#open.some(({ name }, index) => name !== names[index])) {
      throw refused(names.join('/'), 'not sent after its folder');
    }
  }

  async #closeLast(): Promise<void> {
    const folder = this.#open.pop();
    if (folder === undefined) return;
    const { staged, shown, mode, mtimeNs } = folder;
    if (this.#options.isResumed) await this.#removeLeftover(folder, () => this.#leftover.next());
    this.#leftover.pop();
    const bytes = folderBytes(folder);
    this.#openCount.remove(bytes);
    if (!this.#closedCount.hasRoom(bytes)) {
      await this.#jobs.idle();
      await this.#settleClosed();
    }
    this.#closedCount.add(bytes);
    this.#closed.push({ staged, shown, mode, mtimeNs });
    if (this.#open.length > 0) return;
    await this.#jobs.idle();
    await this.#settleClosed();
    await this.close();
  }

  #removeLeftover({ staged, shown }: Place, next: () => Promise<FolderItem | null>): Promise<void> {
    return withPath(shown, async () => {
      for (let item = await next(); item !== null; item = await next()) await removeTree(`${staged}/${item.name}`);
    });
  }

  /** Sets the times and permissions of folders, the deepest first. */
  async #settleClosed(): Promise<void> {
    this.#closedCount.clear();
    for (const { staged, shown, mode, mtimeNs } of this.#closed.splice(0)) {
      await withPath(shown, () => completeFolder(staged, mode, mtimeNs));
    }
  }

  async #makeFolder(path: string): Promise<void> {
    try {
      await this.#options.files.mkdir(path);
    } catch (error) {
      if (systemCode(error) !== 'EEXIST' || !this.#options.isResumed) throw error;
      const stats = await lstat(path);
      if (stats.isDirectory() && isOwn(stats)) return;
      await removeTree(path);
      await this.#options.files.mkdir(path);
    }
  }
}

/** The last check of a copy. Rejects with `copy-refused` if part of a target cannot be put into place. */
export const checkPlace = (target: CopyTarget): Promise<void> => withPath(target.path, () => checkTree(target));

/** Puts a target into place, if its part has this inode: files replace files, and an existing folder is merged. */
export async function placeTarget(target: CopyTarget, inode: number | undefined, files: CopyFiles): Promise<void> {
  const { path, stage, isMerged } = target;
  const requireOwn = (stats: Stats | null): void => {
    if (stats?.ino === inode && stats !== null) return;
    throw new VproxyError('copy-failed', `${showPath(path)}: another copy to this path has taken over`);
  };
  await withPath(path, async () => {
    requireOwn(await statOf(stage, lstat));
    if (!isMerged) return files.rename(stage, placeOf(target));
    const from = await HeldFolder.open(stage);
    try {
      requireOwn(await from.stats());
      const to = await HeldFolder.open(placeOf(target));
      await mergeFolder(target, from, to, files).finally(() => to.close());
    } finally {
      await from.close();
    }
  });
}

/**
 * Opens a new folder. Rejects if another user has replaced it: a file system that changes owners, as NFS does for root, gives
 * the folder and a new file to the same user.
 */
async function openMade({ staged, shown }: Place): Promise<HeldFolder> {
  const folder = await HeldFolder.open(staged);
  try {
    const stats = await folder.stats();
    if (!isOwn(stats) && (await ownerOfNew(folder.path)) !== stats.uid) {
      throw new VproxyError('copy-failed', `${showPath(shown)}: another user has put a folder there during the copy`);
    }
    await chmod(folder.path, 0o700);
    return folder;
  } catch (error) {
    await folder.close();
    throw error;
  }
}

async function ownerOfNew(folder: string): Promise<number> {
  const path = `${folder}/.vproxy-owner`;
  const file = await open(path, 'wx', 0o600);
  try {
    return (await file.stat()).uid;
  } finally {
    await file.close();
    await unlink(path);
  }
}

/** Sets a folder's time and permissions, which may allow no more entries. */
async function completeFolder(path: string, mode: number, mtimeNs: bigint): Promise<void> {
  await utimes(path, Date.now() / 1000, secondsOf(mtimeNs));
  await chmod(path, mode);
}

async function checkTree(target: CopyTarget): Promise<void> {
  const { stage, path, root } = target;
  const top = placeOf(target);
  const stats = await statOf(top, lstat);
  requireReplaceable(path, stats, root.kind);
  if (stats === null || root.kind !== 'folder') return;
  const folders = new FolderStack(readSorted);
  folders.push(stage);
  while (folders.depth > 0) {
    const item = await folders.next();
    if (item === null) {
      folders.pop();
      continue;
    }
    const staged = `${folders.path}/${item.name}`;
    const below = staged.slice(stage.length);
    const there = await statOf(top + below, lstat);
    const isFolder = item.kind === 'folder';
    requireReplaceable(path + below, there, isFolder ? 'folder' : item.kind === 'link' ? 'link' : 'file');
    if (isFolder && there !== null) folders.push(staged);
  }
}

/** Moves everything out of the part as it is read, then removes it. */
async function mergeFolder(target: CopyTarget, from: HeldFolder, to: HeldFolder, files: CopyFiles): Promise<void> {
  const folders = new FolderStack(readAny);
  const names: string[] = [];
  const kept: { readonly mode: number; readonly mtimeNs: bigint }[] = [];
  const enter = async (): Promise<void> => {
    const { mode, mtimeNs } = await stat(from.path, { bigint: true });
    kept.push({ mode: Number(mode) & 0o7777, mtimeNs });
    await chmod(from.path, 0o700);
    folders.push(from.path);
  };
  const leave = async (): Promise<void> => {
    const { mode, mtimeNs } = kept.pop() ?? { mode: 0, mtimeNs: 0n };
    const name = names.pop();
    if (name === undefined) {
      await rmdir(target.stage);
      folders.pop();
      return completeFolder(to.path, mode, mtimeNs);
    }
    await from.up();
    folders.pop(from.path);
    await rmdir(`${from.path}/${name}`);
    await to.up((path) => completeFolder(path, mode, mtimeNs));
  };
  const move = async ({ name, kind }: FolderItem): Promise<void> => {
    const [staged, place] = [`${from.path}/${name}`, `${to.path}/${name}`];
    if (kind !== 'folder') return files.rename(staged, place);
    if ((await statOf(place, lstat)) === null) return moveFolder(staged, place, files);
    await from.down(name);
    await to.down(name);
    names.push(name);
    await enter();
  };
  await enter();
  while (folders.depth > 0) {
    const item = await folders.next();
    const shown = [target.path, ...names, ...(item === null ? [] : [item.name])].join('/');
    await withPath(shown, () => (item === null ? leave() : move(item)));
  }
}

/** The kernel moves a folder only if its user may write to it. */
async function moveFolder(staged: string, place: string, files: CopyFiles): Promise<void> {
  const folder = await HeldFolder.open(staged);
  try {
    const { mode } = await folder.stats();
    const isWritable = (mode & 0o200) !== 0;
    if (!isWritable) await chmod(folder.path, 0o700);
    await files.rename(staged, place);
    if (!isWritable) await chmod(folder.path, mode & 0o7777);
  } finally {
    await folder.close();
  }
}

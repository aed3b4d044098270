/** The received part of a copy, staged next to its target: nothing leaves the staging folder until everything is complete. */
import type { BigIntStats } from 'node:fs';
import { chmod, lstat, lutimes, rmdir, utimes } from 'node:fs/promises';
import { protocolError, systemCode } from '../../../errors.js';
import type { Turns } from '../../../util/concurrency.js';
import { type FolderItem, FolderStack, readAny, readSorted } from '../folders.js';
import { type KeptCount, type KeptLists, keptBytes } from '../kept-list.js';
import { type CopyFiles, refused, removeTree, secondsOf, withPath } from '../system-files.js';
import { type CopyEntry, requireLink } from '../tar/entry.js';
import { compareNames, MAX_PATH_BYTES } from '../tar/names.js';
import { type CopyTarget, requireReplaceable, statOf } from '../targets.js';
import type { Place } from './file.js';

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

  async addFolder(entry: CopyEntry, place: Place): Promise<void> {
    const { names, mode, mtimeNs } = entry;
    this.#openCount.add(folderBytes(place));
    const isMerged =
      names.length === 1
        ? (this.#targets.get(names[0] ?? '')?.isMerged ?? false)
        : (this.#open.at(-1)?.isMerged ?? false) && (await statOf(place.shown, lstat)) !== null;
    await withPath(place.shown, () => this.#makeFolder(place.staged));
    this.#open.push({ ...place, name: names.at(-1) ?? '', mode, mtimeNs, isMerged, lastName: '' });
    this.#leftover.push(place.staged);
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
    if (this.#rootCount < this.#targets.size) throw protocolError('copy: some announced files were not sent');
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
      if ((await lstat(path)).isDirectory()) return;
      await removeTree(path);
      await this.#options.files.mkdir(path);
    }
  }
}

/** The last check of a copy. Rejects with `copy-refused` if part of a target cannot be put into place. */
export async function checkPlace({ path, stage, root }: CopyTarget): Promise<void> {
  await checkTree(stage, path, root.kind);
}

/** Puts a target into place: files replace files, and an existing folder is merged. */
export async function placeTarget(target: CopyTarget, files: CopyFiles): Promise<void> {
  const { path, stage } = target;
  await withPath(path, () => (target.isMerged ? mergeFolder(stage, path, files) : files.rename(stage, path)));
}

/** Sets a folder's time and permissions, after which nothing may be put into it. */
async function completeFolder(path: string, mode: number, mtimeNs: bigint): Promise<void> {
  await utimes(path, Date.now() / 1000, secondsOf(mtimeNs));
  await chmod(path, mode);
}

async function checkTree(stage: string, path: string, kind: 'file' | 'folder' | 'link'): Promise<void> {
  const stats = await statOf(path, lstat);
  requireReplaceable(path, stats, kind);
  if (stats === null || kind !== 'folder') return;
  const folders = new FolderStack(readSorted);
  folders.push(stage);
  while (folders.depth > 0) {
    const item = await folders.next();
    if (item === null) {
      folders.pop();
      continue;
    }
    const staged = `${folders.path}/${item.name}`;
    const place = path + staged.slice(stage.length);
    const there = await statOf(place, lstat);
    const isFolder = item.kind === 'folder';
    requireReplaceable(place, there, isFolder ? 'folder' : item.kind === 'link' ? 'link' : 'file');
    if (isFolder && there !== null) folders.push(staged);
  }
}

/** Moves everything out of `stage` as it is read, then removes it. */
async function mergeFolder(stage: string, path: string, files: CopyFiles): Promise<void> {
  const folders = new FolderStack(readAny);
  const kept: BigIntStats[] = [];
  const enter = async (folder: string): Promise<void> => {
    kept.push(await lstat(folder, { bigint: true }));
    await chmod(folder, 0o700);
    folders.push(folder);
  };
  const leave = async (folder: string, to: string): Promise<void> => {
    const { mode, mtimeNs } = kept.pop() as BigIntStats;
    folders.pop();
    await rmdir(folder);
    await completeFolder(to, Number(mode) & 0o7777, mtimeNs);
  };
  const move = async (from: string, to: string, { kind }: FolderItem): Promise<void> => {
    if (kind !== 'folder') await files.rename(from, to);
    else if ((await statOf(to, lstat)) === null) await moveFolder(from, to, files);
    else await enter(from);
  };
  await enter(stage);
  while (folders.depth > 0) {
    const folder = folders.path;
    const item = await folders.next();
    const from = item === null ? folder : `${folder}/${item.name}`;
    const to = path + from.slice(stage.length);
    await withPath(to, () => (item === null ? leave(folder, to) : move(from, to, item)));
  }
}

/** The system moves a folder into another one only if the user may write to the folder itself. */
async function moveFolder(from: string, to: string, files: CopyFiles): Promise<void> {
  const { mode } = await lstat(from);
  const isWritable = (mode & 0o200) !== 0;
  if (!isWritable) await chmod(from, 0o700);
  await files.rename(from, to);
  if (!isWritable) await chmod(to, mode & 0o7777);
}

/** What has come of a copy, beside where it is to be: nothing gets out of there before everything is complete. */
import { chmod, lstat, lutimes, readdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode, VproxyError } from '../errors.js';
import { copyError, refused, showPath } from './copy-error.js';
import type { CopyEntry } from './entry.js';
import { compareNames, isLinkInside } from './entry-name.js';
import type { JobQueue } from './job-queue.js';
import { type KeptCount, type KeptLists, keptBytes } from './kept-list.js';
import { MAX_PATH_BYTES } from './messages.js';
import { removeTree } from './remove-tree.js';
import { type CopyFiles, secondsOf } from './system-files.js';
import { type CopyTarget, requireReplaceable, statOf } from './targets.js';

/** Where an entry is put. */
export interface Place {
  /** Now, */
  readonly staged: string;
  /** and in the end, for messages. */
  readonly shown: string;
}

/** A folder that is complete but for its time and its permissions. */
interface ClosedFolder extends Place {
  readonly mode: number;
  readonly mtimeNs: bigint;
}

/** A folder that is being filled. */
interface OpenFolder extends ClosedFolder {
  readonly name: string;
  /** Whether there is a folder already at its place. */
  readonly isMerged: boolean;
  /** The name of what came last: the next one must come behind it, so that nothing comes twice. */
  lastName: string;
  /** What an earlier copy has left in it, and what has not come yet. */
  readonly leftover: Set<string>;
}

/** So many folders wait for their permissions and times until what is in them is complete; then all of them are waited for. */
const CLOSED = { what: 'closed folders', maxCount: 4096, maxBytes: 2_097_152 };

/** Folders in one another: more than the system takes, each of one letter. */
const OPEN = { what: 'folders in one another', maxCount: MAX_PATH_BYTES / 2, maxBytes: 20_971_520 };

const folderBytes = ({ staged, shown }: Place): number => keptBytes(staged) + keptBytes(shown);

export class StagedTree {
  readonly #targets: ReadonlyMap<string, CopyTarget>;
  readonly #files: CopyFiles;
  readonly #jobs: JobQueue;
  readonly #isResumed: boolean;
  readonly #open: OpenFolder[] = [];
  readonly #openCount: KeptCount;
  readonly #closed: ClosedFolder[] = [];
  readonly #closedCount: KeptCount;
  #lastRoot = '';
  #rootCount = 0;

  constructor(
    targets: readonly CopyTarget[],
    { isResumed, files, lists }: { isResumed: boolean; files: CopyFiles; lists: KeptLists },
    jobs: JobQueue,
  ) {
    this.#targets = new Map(targets.map((target) => [target.root.name, target]));
    this.#isResumed = isResumed;
    this.#files = files;
    this.#jobs = jobs;
    this.#openCount = lists.list(OPEN);
    this.#closedCount = lists.list(CLOSED);
  }

  /**
   * Finds the place of the next entry. Entries come in order, each behind its folder. Rejects with `copy-refused` for
   * one that does not, or that cannot be where it is to be.
   */
  async place(entry: CopyEntry): Promise<Place> {
    const { names, kind, linkTarget } = entry;
    const name = names.at(-1) ?? '';
    await this.#closeUpTo(names);
    const folder = this.#open.at(-1);
    if (folder === undefined) return this.#placeRoot(name, kind);
    if (compareNames(name, folder.lastName) <= 0) throw refused(names.join('/'), 'it comes twice, or not in order');
    folder.lastName = name;
    folder.leftover.delete(name);
    const place = { staged: `${folder.staged}/${name}`, shown: `${folder.shown}/${name}` };
    if (kind === 'link' && !isLinkInside(linkTarget, names.length - 2)) {
      throw refused(place.shown, `the link leads out of what is copied, to ${showPath(linkTarget)}`);
    }
    if (folder.isMerged) requireReplaceable(place.shown, await statOf(place.shown, lstat), kind);
    return place;
  }

  /** Makes a folder, which is the one that what follows may be in. */
  async addFolder(entry: CopyEntry, place: Place): Promise<void> {
    const { names, mode, mtimeNs } = entry;
    this.#openCount.add(folderBytes(place));
    const isMerged =
      names.length === 1
        ? (this.#targets.get(names[0] ?? '')?.isMerged ?? false)
        : (this.#open.at(-1)?.isMerged ?? false) && (await statOf(place.shown, lstat)) !== null;
    const leftover = new Set<string>();
    try {
      for (const name of await this.#makeFolder(place.staged)) leftover.add(name);
    } catch (error) {
      throw copyError(place.shown, error);
    }
    this.#open.push({ ...place, name: names.at(-1) ?? '', mode, mtimeNs, isMerged, lastName: '', leftover });
  }

  async addLink({ linkTarget, mtimeNs }: CopyEntry, { staged, shown }: Place): Promise<void> {
    try {
      if (this.#isResumed) await removeTree(staged);
      await this.#files.symlink(linkTarget, staged);
      await lutimes(staged, Date.now() / 1000, secondsOf(mtimeNs));
    } catch (error) {
      throw copyError(shown, error);
    }
  }

  /** Everything has come. Rejects with `protocol-error` where something is missing. */
  async finish(): Promise<void> {
    await this.#closeUpTo([]);
    await this.#jobs.idle();
    await this.#settleClosed();
    if (this.#rootCount < this.#targets.size) throw new VproxyError('protocol-error', 'copy: something did not come');
  }

  #placeRoot(name: string, kind: CopyEntry['kind']): Place {
    const target = this.#targets.get(name);
    if (target === undefined || kind !== target.root.kind) throw refused(name, 'it was not announced');
    if (this.#rootCount > 0 && compareNames(name, this.#lastRoot) <= 0) throw refused(name, 'it comes twice');
    this.#lastRoot = name;
    this.#rootCount += 1;
    return { staged: target.stage, shown: target.path };
  }

  /** Closes the folders that an entry of these names is not in. */
  async #closeUpTo(names: readonly string[]): Promise<void> {
    const depth = Math.max(0, names.length - 1);
    while (this.#open.length > depth) await this.#closeLast();
    if (this.#open.length < depth || this.#open.some(({ name }, index) => name !== names[index])) {
      throw refused(names.join('/'), 'it does not come behind the folder that it is in');
    }
  }

  async #closeLast(): Promise<void> {
    const folder = this.#open.pop();
    if (folder === undefined) return;
    const { leftover, staged, shown, mode, mtimeNs } = folder;
    for (const name of leftover) await removeTree(join(staged, name));
    const bytes = folderBytes(folder);
    this.#openCount.remove(bytes);
    if (!this.#closedCount.hasRoom(bytes)) {
      await this.#jobs.idle();
      await this.#settleClosed();
    }
    this.#closedCount.add(bytes);
    this.#closed.push({ staged, shown, mode, mtimeNs });
  }

  /** Gives folders their times and permissions, those that are deeper first. */
  async #settleClosed(): Promise<void> {
    this.#closedCount.clear();
    for (const { staged, shown, mode, mtimeNs } of this.#closed.splice(0)) {
      try {
        await utimes(staged, Date.now() / 1000, secondsOf(mtimeNs));
        await chmod(staged, mode);
      } catch (error) {
        throw copyError(shown, error);
      }
    }
  }

  /** Gives what is in it already, which is no more than was told of. */
  async #makeFolder(path: string): Promise<string[]> {
    try {
      await this.#files.mkdir(path);
    } catch (error) {
      if (systemCode(error) !== 'EEXIST' || !this.#isResumed) throw error;
      if ((await lstat(path)).isDirectory()) return readdir(path);
      await removeTree(path);
      await this.#files.mkdir(path);
    }
    return [];
  }
}

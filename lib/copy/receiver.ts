/** The side that the files are copied to. */

import { lstat } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { VproxyError } from '../errors.js';
import { copyError, refused, showPath } from './copy-error.js';
import type { CopyProgress } from './copy-progress.js';
import type { CopyEntry } from './entry.js';
import { compareNames } from './entry-name.js';
import { JobQueue } from './job-queue.js';
import { COPY_KIND, type CopyPlan, decodePlan, decodeWarning, encodeMessage } from './messages.js';
import { checkPlace, placeTarget } from './place-target.js';
import type { RecordStream } from './record-stream.js';
import { removeTree } from './remove-tree.js';
import { StagedFile } from './staged-file.js';
import { tellStaged } from './staged-manifest.js';
import { type Place, StagedTree } from './staged-tree.js';
import { type CopyFiles, SYSTEM_FILES } from './system-files.js';
import { type EntryHandler, TarReader } from './tar-reader.js';
import { type CopyTarget, findTargets, statOf } from './targets.js';
import type { Warn } from './walk.js';

/** So many small files are written at once. */
const MAX_JOBS = 16;

/** Files up to this size are written in one go, beside others, in bytes. */
const SMALL_BYTES = 131_072;

/** So many checks may be behind, or ahead of, their files. */
const MAX_CHECKS = 65_536;

export interface ReceiveOptions {
  readonly records: RecordStream;
  /** The path that was named. */
  readonly target: string;
  /** The folder that it must be in; null: anywhere. */
  readonly root: string | null;
  /** The names that were asked for; null where the sender says what it brings. */
  readonly names: readonly string[] | null;
  /** Whether to go on with what an earlier copy has left. */
  readonly isResumed: boolean;
  readonly progress: CopyProgress;
  /** Told of what the sender warns of. */
  readonly warn: Warn;
  /** Told where everything is going to be, when that is known. */
  readonly onTargets?: (paths: readonly string[]) => void;
  /** Default: those of the system. */
  readonly files?: CopyFiles;
}

/**
 * Receives everything and puts it into its place, all or nothing. Resolves with where that is. Rejects with what has
 * failed; then what has come is kept for a later copy where the stream was lost, and removed otherwise.
 */
export async function receiveFiles(options: ReceiveOptions): Promise<string[]> {
  const { records, progress } = options;
  const plan = decodePlan(await records.expect(COPY_KIND.PLAN));
  requireNames(plan, options.names);
  progress.totals = plan.totals;
  const targets = await findTargets(options.target, plan.roots, options.root);
  const paths = targets.map(({ path }) => path);
  options.onTargets?.(paths);
  const release = claim(targets);
  try {
    await receiveInto(targets, options);
    await records.send(encodeMessage(COPY_KIND.DONE, {}));
    return paths;
  } catch (error) {
    // A part that could not be removed is replaced by the next copy.
    if (!records.isLost) await Promise.allSettled(targets.map(({ stage }) => removeTree(stage)));
    throw error;
  } finally {
    release();
  }
}

async function receiveInto(targets: readonly CopyTarget[], options: ReceiveOptions): Promise<void> {
  const { records, isResumed, files = SYSTEM_FILES } = options;
  if (isResumed) await tellStaged(records, targets);
  else {
    for (const { path, stage } of targets) {
      await removeTree(stage).catch((error: unknown) => {
        throw copyError(path, error);
      });
    }
  }
  const unpacking = new Unpacking(targets, { ...options, files });
  await records.send(encodeMessage(COPY_KIND.READY, { targets: targets.map(({ path }) => path) }));
  await unpacking.run();
  for (const target of targets) await checkPlace(target);
  for (const target of targets) {
    records.check();
    await unpacking.requireOwn(target);
    await placeTarget(target, files);
  }
}

/** A peer that is asked for some files must not bring others: they would get where the asked ones should. */
function requireNames({ roots }: CopyPlan, names: readonly string[] | null): void {
  roots.forEach(({ name }, index) => {
    const before = roots[index - 1];
    if (before !== undefined && compareNames(name, before.name) <= 0)
      throw refused(name, 'it comes twice, or not in order');
    if (names !== null && !names.includes(name)) throw refused(name, 'it was not asked for');
  });
  if (names !== null && names.length !== roots.length) {
    throw new VproxyError('protocol-error', 'copy: not everything that was asked for comes');
  }
}

/** What copies of this process are writing at the moment. */
const claimed = new Set<string>();

/** Two copies to one place would write into each other's part. */
function claim(targets: readonly CopyTarget[]): () => void {
  const taken = targets.find(({ stage }) => claimed.has(stage));
  if (taken !== undefined) throw refused(taken.path, 'another copy to this place is under way');
  for (const { stage } of targets) claimed.add(stage);
  return () => {
    for (const { stage } of targets) claimed.delete(stage);
  };
}

/** A file that is coming. */
interface Incoming {
  readonly entry: CopyEntry;
  readonly place: Place;
  readonly name: string;
  crc: number;
  /** The bytes of a small one; null for one that is written as it comes. */
  readonly chunks: Buffer[] | null;
  readonly file: StagedFile | null;
}

class Unpacking implements EntryHandler {
  readonly #records: RecordStream;
  readonly #progress: CopyProgress;
  readonly #warn: Warn;
  readonly #files: CopyFiles;
  readonly #jobs: JobQueue;
  readonly #tree: StagedTree;
  readonly #reader: TarReader;
  readonly #checks = new CheckList();
  /** The number of the file or folder that was made for each target: another copy may replace it by its own. */
  readonly #inodes = new Map<string, number>();
  #incoming: Incoming | null = null;

  constructor(targets: readonly CopyTarget[], options: ReceiveOptions & { readonly files: CopyFiles }) {
    const { records, progress, warn, isResumed, files } = options;
    this.#records = records;
    this.#progress = progress;
    this.#warn = warn;
    this.#files = files;
    this.#jobs = new JobQueue(MAX_JOBS, (error) => records.fail(error));
    this.#tree = new StagedTree(targets, isResumed, files, this.#jobs);
    this.#reader = new TarReader(records, this);
  }

  /** Writes all that comes. Rejects with what has failed; nothing is written any more then. */
  async run(): Promise<void> {
    try {
      await this.#untilEnd();
      await this.#reader.end();
      await this.#tree.finish();
      this.#records.check();
      this.#checks.finish();
    } catch (error) {
      // What has come so far need not come again.
      if (this.#records.isLost) await this.#reader.drain();
      this.#reader.destroy();
      await this.#incoming?.file?.abandon();
      await this.#jobs.idle();
      // What has failed first tells more than what failed for it.
      throw this.#records.failure ?? error;
    }
  }

  /** Rejects where what stands beside the target is not what this copy has made. */
  async requireOwn({ root, stage, path }: CopyTarget): Promise<void> {
    const stats = await statOf(stage, lstat);
    if (stats === null || stats.ino !== this.#inodes.get(root.name)) {
      throw new VproxyError('copy-failed', `${showPath(path)}: another copy to this place has taken over`);
    }
  }

  async onEntry(entry: CopyEntry): Promise<void> {
    if (!this.#records.isLost) this.#records.check();
    const place = await this.#tree.place(entry);
    const name = entry.names.join('/');
    this.#progress.path = name;
    if (entry.kind === 'folder') {
      await this.#tree.addFolder(entry, place);
      await this.#noteInode(entry, place);
      this.#progress.folders += 1;
    } else if (entry.kind === 'link') {
      this.#progress.links += 1;
      await this.#jobs.add(() => this.#tree.addLink(entry, place));
    } else {
      this.#progress.bytes += entry.offset;
      this.#progress.resumedBytes += entry.offset;
      const isSmall = entry.bytes - entry.offset <= SMALL_BYTES;
      const file = isSmall ? null : await StagedFile.open(this.#files, place.staged, place.shown, entry);
      this.#incoming = { entry, place, name, crc: 0, chunks: isSmall ? [] : null, file };
    }
  }

  onBytes(bytes: Buffer): Promise<void> | null {
    const { file, chunks } = this.#requireIncoming();
    const incoming = this.#requireIncoming();
    incoming.crc = crc32(bytes, incoming.crc);
    this.#progress.bytes += bytes.length;
    chunks?.push(bytes);
    return file?.write(bytes) ?? null;
  }

  async onFileEnd(): Promise<void> {
    const { entry, place, name, crc, chunks, file } = this.#requireIncoming();
    this.#incoming = null;
    this.#checks.addFile(name, crc);
    this.#progress.files += 1;
    if (file !== null) await file.finish(entry);
    else {
      const written = this.#jobs.add(() => this.#writeSmall(entry, place, chunks ?? []));
      // Its number is not known before.
      if (entry.names.length === 1) await this.#jobs.idle();
      await written;
    }
    await this.#noteInode(entry, place);
  }

  async #untilEnd(): Promise<void> {
    for (;;) {
      const { kind, payload } = await this.#records.next();
      if (kind === COPY_KIND.END) return;
      if (kind === COPY_KIND.CHECKS) this.#checks.addExpected(payload);
      else if (kind === COPY_KIND.WARNING) this.#warn(decodeWarning(payload));
      else throw new VproxyError('protocol-error', `copy: a record of kind ${kind} within the tar`);
    }
  }

  async #writeSmall(entry: CopyEntry, { staged, shown }: Place, chunks: readonly Buffer[]): Promise<void> {
    const file = await StagedFile.open(this.#files, staged, shown, entry);
    for (const chunk of chunks) await file.write(chunk);
    await file.finish(entry);
  }

  async #noteInode({ names }: CopyEntry, { staged }: Place): Promise<void> {
    const [name = ''] = names;
    if (names.length === 1) this.#inodes.set(name, (await statOf(staged, lstat))?.ino ?? -1);
  }

  #requireIncoming(): Incoming {
    if (this.#incoming === null) throw new VproxyError('internal', 'bytes of no file');
    return this.#incoming;
  }
}

/** What was received, against what was sent: in the order of the tar, whichever of the two is known first. */
class CheckList {
  readonly #received: { readonly name: string; readonly crc: number }[] = [];
  readonly #expected: number[] = [];

  addFile(name: string, crc: number): void {
    this.#received.push({ name, crc });
    this.#compare();
  }

  addExpected(payload: Buffer): void {
    for (let at = 0; at + 4 <= payload.length; at += 4) this.#expected.push(payload.readUInt32BE(at));
    this.#compare();
  }

  /** Throws where a file has no check. */
  finish(): void {
    if (this.#received.length + this.#expected.length > 0) {
      throw new VproxyError('protocol-error', 'copy: not every file has its check');
    }
  }

  #compare(): void {
    const count = Math.min(this.#received.length, this.#expected.length);
    const expected = this.#expected.splice(0, count);
    this.#received.splice(0, count).forEach(({ name, crc }, index) => {
      if (crc !== expected[index]) throw new VproxyError('copy-failed', `${showPath(name)}: it was changed on the way`);
    });
    if (this.#received.length + this.#expected.length > MAX_CHECKS) {
      throw new VproxyError('protocol-error', 'copy: the checks of too many files are missing');
    }
  }
}

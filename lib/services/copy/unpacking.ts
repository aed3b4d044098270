/** Unpacks files, folders and links from a tar, next to their targets. */
import { crc32 } from 'node:zlib';
import { protocolError, toVproxyError, VproxyError } from '../../errors.js';
import { Turns } from '../../util/concurrency.js';
import { COPY_KIND, decodeCompared, decodeWarning } from './copy-messages.js';
import type { CopyRun } from './copy-progress.js';
import { type KeptCount, type KeptLists, keptBytes } from './kept-list.js';
import { type Place, StagedFile } from './staging/file.js';
import { StagedTree } from './staging/tree.js';
import type { CopyFiles } from './system-files.js';
import type { CopyEntry } from './tar/entry.js';
import { showPath } from './tar/names.js';
import { type EntryHandler, TarReader } from './tar/tar-reader.js';
import type { CopyTarget } from './targets.js';

const MAX_JOBS = 16;

/** Files up to this size are buffered whole, and written in parallel. */
const SMALL_BYTES = 131_072;

export interface UnpackOptions extends CopyRun {
  /** Whether to continue with the files left by an earlier copy. */
  readonly isResumed: boolean;
  readonly files: CopyFiles;
}

interface Incoming {
  readonly entry: CopyEntry;
  readonly place: Place;
  readonly name: string;
  crc: number;
  /** The bytes of a small file. */
  readonly chunks: Buffer[];
  /** A large file, written as it arrives; null for a small one. */
  readonly file: StagedFile | null;
}

export class Unpacking implements EntryHandler {
  readonly #run: UnpackOptions;
  readonly #jobs = new Turns(MAX_JOBS);
  readonly #tree: StagedTree;
  readonly #reader: TarReader;
  readonly #checks: CheckList;
  /** The inode created for each target: another copy may replace it with its own. */
  readonly #inodes = new Map<string, number>();
  #incoming: Incoming | null = null;

  constructor(targets: readonly CopyTarget[], run: UnpackOptions) {
    this.#run = run;
    this.#tree = new StagedTree(targets, run, this.#jobs);
    this.#checks = new CheckList(run.lists);
    this.#reader = new TarReader(run.records, this);
  }

  /** Writes everything. Rejects with the first failure, once nothing is being written. */
  async run(): Promise<void> {
    const { records } = this.#run;
    try {
      await this.#untilEnd();
      await this.#reader.end();
      await this.#tree.finish();
      records.check();
      this.#checks.finish();
    } catch (error) {
      // Whatever has arrived need not be sent again.
      if (records.isLost) await this.#reader.drain();
      this.#reader.destroy();
      await this.#reader.idle();
      await this.#incoming?.file?.abandon();
      await this.#jobs.idle();
      await this.#tree.close();
      // The first failure says more than those that it caused.
      throw records.failure ?? error;
    }
  }

  /** The inode of the part, by which to see whether another copy has replaced it. */
  inodeOf({ root }: CopyTarget): number | undefined {
    return this.#inodes.get(root.name);
  }

  async onEntry(entry: CopyEntry): Promise<void> {
    const { records, progress, files } = this.#run;
    if (!records.isLost) records.check();
    const place = await this.#tree.place(entry);
    const name = entry.names.join('/');
    progress.path = name;
    progress.comparison = null;
    if (entry.kind === 'folder') {
      this.#noteInode(entry, await this.#tree.addFolder(entry, place));
      progress.folders += 1;
    } else if (entry.kind === 'link') {
      progress.links += 1;
      await this.#start(() => this.#tree.addLink(entry, place));
    } else {
      progress.bytes += entry.offset;
      progress.resumedBytes += entry.offset;
      const isSmall = entry.bytes - entry.offset <= SMALL_BYTES;
      const file = isSmall ? null : await StagedFile.open(files, place, entry);
      this.#incoming = { entry, place, name, crc: 0, chunks: [], file };
    }
  }

  onBytes(bytes: Buffer): Promise<void> | null {
    const incoming = this.#requireIncoming();
    incoming.crc = crc32(bytes, incoming.crc);
    this.#run.progress.bytes += bytes.length;
    if (incoming.file !== null) return incoming.file.write(bytes);
    incoming.chunks.push(bytes);
    return null;
  }

  async onFileEnd(): Promise<void> {
    const { entry, place, name, crc, chunks, file } = this.#requireIncoming();
    this.#incoming = null;
    this.#checks.addFile(name, crc);
    this.#run.progress.files += 1;
    if (file !== null) await this.#finish(file, entry);
    else {
      const written = this.#start(() => this.#writeSmall(entry, place, chunks));
      // The inode exists only after the write.
      if (entry.names.length === 1) await this.#jobs.idle();
      await written;
    }
  }

  /** Resolves when `work` has started; its failure fails the copy. */
  #start(work: () => Promise<void>): Promise<void> {
    return this.#jobs.start(() => work().catch((error: unknown) => this.#run.records.fail(toVproxyError(error))));
  }

  async #untilEnd(): Promise<void> {
    const { records, progress, warn } = this.#run;
    for (;;) {
      const { kind, payload } = await records.next();
      if (kind === COPY_KIND.END) return;
      if (kind === COPY_KIND.CHECKS) this.#checks.addExpected(payload);
      else if (kind === COPY_KIND.COMPARED) progress.compare({ ...decodeCompared(payload), side: 'there' });
      else if (kind === COPY_KIND.WARNING) warn(decodeWarning(payload));
      else throw protocolError(`copy: unexpected record of kind ${kind} in the tar`);
    }
  }

  async #writeSmall(entry: CopyEntry, place: Place, chunks: readonly Buffer[]): Promise<void> {
    const file = await StagedFile.open(this.#run.files, place, entry);
    for (const chunk of chunks) await file.write(chunk);
    await this.#finish(file, entry);
  }

  async #finish(file: StagedFile, entry: CopyEntry): Promise<void> {
    if (entry.names.length === 1) this.#noteInode(entry, await file.inode());
    await file.finish(entry);
  }

  #noteInode({ names }: CopyEntry, inode: number): void {
    const [name = ''] = names;
    if (names.length === 1) this.#inodes.set(name, inode);
  }

  #requireIncoming(): Incoming {
    if (this.#incoming === null) throw new VproxyError('internal', 'bytes outside a file');
    return this.#incoming;
  }
}

/** Bounds on files without a check: a sender sends checks 1,024 at a time, and a name may have 4 KiB. */
const FILES = { what: 'files without a check', maxCount: 65_536, maxBytes: 16_777_216 };

/** The size of a check in an array of numbers, in bytes. */
const CHECK_BYTES = 8;

const CHECKS = { what: 'checks without a file', maxCount: 65_536, maxBytes: 65_536 * CHECK_BYTES };

/** Compares the checks of received files with those sent, in tar order, whichever of the two is known first. */
export class CheckList {
  readonly #received: { readonly name: string; readonly crc: number }[] = [];
  readonly #expected: number[] = [];
  readonly #receivedCount: KeptCount;
  readonly #expectedCount: KeptCount;

  constructor(lists: KeptLists) {
    this.#receivedCount = lists.list(FILES);
    this.#expectedCount = lists.list(CHECKS);
  }

  /** Throws `copy-failed` for a corrupted file, and `protocol-error` if too many files have no check. */
  addFile(name: string, crc: number): void {
    this.#receivedCount.add(keptBytes(name));
    this.#received.push({ name, crc });
    this.#compare();
  }

  /** Adds the checks in a CHECKS. Throws like {@link addFile}. */
  addExpected(payload: Buffer): void {
    for (let at = 0; at + 4 <= payload.length; at += 4) {
      this.#expectedCount.add(CHECK_BYTES);
      this.#expected.push(payload.readUInt32BE(at));
    }
    this.#compare();
  }

  finish(): void {
    if (this.#received.length + this.#expected.length > 0) throw protocolError('copy: files and checks do not match');
  }

  #compare(): void {
    const count = Math.min(this.#received.length, this.#expected.length);
    const expected = this.#expected.splice(0, count);
    this.#received.splice(0, count).forEach(({ name, crc }, index) => {
      this.#receivedCount.remove(keptBytes(name));
      this.#expectedCount.remove(CHECK_BYTES);
      if (crc !== expected[index]) throw new VproxyError('copy-failed', `${showPath(name)}: corrupted in transit`);
    });
  }
}

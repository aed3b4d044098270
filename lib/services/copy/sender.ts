/** The sending side of a copy. */
import { lstat } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { protocolError, systemCode } from '../../errors.js';
import { lookAhead, Turns } from '../../util/concurrency.js';
import {
  COPY_KIND,
  type CopyTotals,
  decodeCompared,
  decodeReady,
  decodeStaged,
  encodeChecks,
  encodeMessage,
  STAGED_BOUNDS,
} from './copy-messages.js';
import { ComparisonCount, type CopyProgress, type CopyRun } from './copy-progress.js';
import { Warnings } from './kept-list.js';
import { checkUnchanged, closeEntry, type ReadEntry, readBlocks, readEntry, readLink } from './read-entry.js';
import { type FoundSource, type WalkedEntry, walkSources } from './sources.js';
import { StagedList } from './staging/manifest.js';
import { copyError } from './system-files.js';
import { TarWriter } from './tar/tar-writer.js';

/** Entries that are read ahead of their turn. */
const AHEAD = 16;

/** Shared by all copies: operations that complete together are handled in one turn of the event loop. */
const looks = new Turns(AHEAD);

const CHECKS_PER_RECORD = 1024;

export interface SendOptions extends CopyRun {
  readonly sources: readonly FoundSource[];
  readonly hasTotals: boolean;
}

/** Sends everything and waits until it is in place. Resolves with the paths that the peer reports. */
export async function sendFiles(options: SendOptions): Promise<string[]> {
  const { records, sources, hasTotals, progress } = options;
  const totals = hasTotals ? await countSources(options) : null;
  progress.totals = totals;
  const roots = sources.map(({ name, kind }) => ({ name, kind }));
  await records.send(encodeMessage(COPY_KIND.PLAN, { roots, totals }));
  const { targets, staged } = await readReady(options);
  await sendTar(options, staged);
  await records.send(encodeMessage(COPY_KIND.END, {}));
  await records.expect(COPY_KIND.DONE);
  return targets;
}

/** Counts the sources. Rejects for anything that would be refused later. */
async function countSources({ sources, records, keepsLinks }: SendOptions): Promise<CopyTotals> {
  const totals = { files: 0, folders: 0, links: 0, bytes: 0 };
  const count = async (entry: WalkedEntry): Promise<void> => {
    const { path, kind } = entry;
    totals[`${kind}s` as const] += 1;
    try {
      if (kind === 'link') await readLink(entry, keepsLinks);
      const bytes = kind === 'file' ? (await lstat(path)).size : 0;
      totals.bytes += bytes;
    } catch (error) {
      // An entry removed meanwhile is reported when its turn comes.
      if (systemCode(error) !== 'ENOENT') throw copyError(path, error);
    }
  };
  const entries = lookAhead(
    walkSources(sources, () => undefined),
    (entry) => looks.run(null, () => count(entry)),
    AHEAD,
  );
  while ((await entries.next()).done !== true) records.check();
  return totals;
}

async function readReady({ records, lists, progress }: CopyRun): Promise<{ targets: string[]; staged: StagedList }> {
  const staged = new StagedList(lists.list(STAGED_BOUNDS));
  for (;;) {
    const { kind, payload } = await records.next();
    if (kind === COPY_KIND.READY) {
      progress.comparison = null;
      return { targets: decodeReady(payload), staged };
    }
    if (kind === COPY_KIND.COMPARED) progress.compare({ ...decodeCompared(payload), side: 'there' });
    else if (kind === COPY_KIND.STAGED) for (const file of decodeStaged(payload)) staged.add(file);
    else throw protocolError(`copy: unexpected record of kind ${kind} before READY`);
  }
}

async function sendTar(options: SendOptions, staged: StagedList): Promise<void> {
  const { records, sources, progress, keepsLinks } = options;
  const comparing = new ComparisonCount(options);
  comparing.begin(staged.totalBytes);
  const warnings = new Warnings((message) => {
    options.warn(message);
    records.write(encodeMessage(COPY_KIND.WARNING, { message }));
  }, 'here');
  const warn = (message: string): void => warnings.add(message);
  const tar = new TarWriter(records);
  const checks: number[] = [];
  const sendChecks = (): void => {
    if (checks.length > 0) records.write(encodeChecks(checks.splice(0)));
  };
  const walked = walkSources(sources, warn);
  const drop = async (entry: ReadEntry | null): Promise<void> => (entry === null ? undefined : closeEntry(entry));
  try {
    const read = (entry: WalkedEntry) => looks.run(null, () => readEntry(entry, warn, keepsLinks));
    for await (const entry of lookAhead(walked, read, AHEAD, drop)) {
      if (entry === null) continue;
      try {
        records.check();
        progress.path = entry.names.join('/');
        const part = staged.find(progress.path);
        const offset = part === null ? 0 : await matchingBytes(entry, part, comparing);
        comparing.clear();
        const crc = await sendEntry(tar, entry, offset, progress);
        if (crc !== null) checks.push(crc);
        if (checks.length === CHECKS_PER_RECORD) sendChecks();
        await checkUnchanged(entry, warn);
      } finally {
        await closeEntry(entry);
      }
    }
    await tar.end();
    sendChecks();
  } finally {
    warnings.end();
    tar.destroy();
  }
}

/** Sends an entry; a file from `offset` on. Returns the check of the bytes sent if it is a file. */
async function sendEntry(
  tar: TarWriter,
  entry: ReadEntry,
  offset: number,
  progress: CopyProgress,
): Promise<number | null> {
  progress.bytes += offset;
  progress.resumedBytes += offset;
  let crc = 0;
  async function* contents(): AsyncGenerator<Buffer> {
    for await (const block of readBlocks(entry, offset, entry.bytes)) {
      crc = crc32(block, crc);
      progress.bytes += block.length;
      yield block;
    }
  }
  await tar.add({ ...entry, offset }, contents());
  progress[`${entry.kind}s` as const] += 1;
  return entry.kind === 'file' ? crc : null;
}

/** The number of bytes that need not be sent: the peer's part, if the file starts with it. */
async function matchingBytes(
  entry: ReadEntry,
  { bytes, sha256 }: { readonly bytes: number; readonly sha256: Buffer },
  comparing: ComparisonCount,
): Promise<number> {
  if (entry.kind !== 'file' || bytes > entry.bytes) return 0;
  const hash = await comparing.hash(readBlocks(entry, 0, bytes));
  return hash.equals(sha256) ? bytes : 0;
}

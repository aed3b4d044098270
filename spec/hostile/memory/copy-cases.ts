/**
 * What a peer can make a copy keep: of each kind of item the largest number of the smallest, or the largest, pieces. A
 * case returns the most bytes that this process held, after a garbage collection; `scale` is a part of what a peer can
 * send: 1 is all of it.
 */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { COPY_KIND, encodeMessage } from '../../../lib/copy/copy-messages.js';
import { CopyService } from '../../../lib/copy/copy-service.js';
import { type CopyFiles, SYSTEM_FILES } from '../../../lib/copy/system-files.js';
import { encodeRecord, encodeRecordHeader, RecordReader } from '../../../lib/util/bytes/records.js';
import { systemClock } from '../../../lib/util/clock.js';
import { deferred } from '../../../lib/util/concurrency.js';
import { duplexPair } from '../../helpers/channel-pair.js';
import { type HostileEntry, makeTar, tarRecords } from '../../helpers/hostile-copy.js';
import { heapBytes } from '../../helpers/measures.js';
import type { MemoryCase } from './memory-case.js';

const KIB = 1024;
const MIB = 1024 * KIB;

/** What a stream carries at once. */
const CHUNK_BYTES = 64 * KIB;

/** The number of times that the memory is measured while a case sends. */
const SAMPLES = 6;

/** A hostile end of a copy. */
class Attacker {
  readonly #stream: Duplex;
  readonly #honest: Duplex;
  readonly #kinds = new Set<number>();
  #isEnded = false;

  constructor(stream: Duplex, honest: Duplex, isReading = true) {
    this.#stream = stream;
    this.#honest = honest;
    const end = (): void => {
      this.#isEnded = true;
    };
    stream.on('error', end).on('end', end).on('close', end);
    honest.on('error', end).on('close', end);
    const reader = new RecordReader({
      pieces: new Set([COPY_KIND.DATA]),
      onPiece: () => undefined,
      onRecord: (kind) => {
        this.#kinds.add(kind);
        if (kind === COPY_KIND.ERROR) end();
        // From here on the other side cannot write.
        if (kind === COPY_KIND.PLAN && !isReading) stream.pause();
      },
    });
    stream.on('data', (chunk: Buffer) => reader.push(chunk));
  }

  /** Whether the other side has ended the stream. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Sends bytes, and waits until they are read: false where the other side reads no more. */
  async send(bytes: Buffer, canStick = false): Promise<boolean> {
    for (let at = 0; at < bytes.length && !this.isEnded; at += CHUNK_BYTES) {
      const sent = { isTaken: false };
      this.#stream.write(bytes.subarray(at, at + CHUNK_BYTES), () => {
        sent.isTaken = true;
      });
      while (!sent.isTaken && !this.#isEnded) {
        await setImmediate();
        if (canStick && this.#honest.isPaused()) return false;
      }
    }
    return !this.isEnded;
  }

  /** Waits for a record of the other side. */
  async heard(kind: number): Promise<void> {
    while (!this.#kinds.has(kind) && !this.#isEnded) await setImmediate();
  }

  destroy(): void {
    this.#stream.destroy();
  }
}

/** Sends all pieces, and returns the most that was held meanwhile, above `before`. */
async function mostHeld(
  attacker: Attacker,
  before: number,
  count: number,
  piece: (index: number) => Buffer | Promise<Buffer>,
  canStick = false,
): Promise<number> {
  let most = 0;
  const sample = async (): Promise<void> => {
    most = Math.max(most, (await heapBytes()) - before);
  };
  const step = Math.max(1, Math.ceil(count / SAMPLES));
  for (let index = 0; index < count; index += 1) {
    if (!(await attacker.send(await piece(index), canStick))) break;
    if (index % step === step - 1) await sample();
  }
  await sample();
  return most;
}

/** Runs a case in a folder of its own, against a service. */
async function withService(
  files: CopyFiles,
  run: (open: (isReading?: boolean) => Attacker, folder: string) => Promise<number>,
): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-memory-'));
  const service = new CopyService({ root: null, clock: systemClock, log: () => undefined, files });
  const attackers: Attacker[] = [];
  const open = (isReading = true): Attacker => {
    const [honest, hostile] = duplexPair();
    const attacker = new Attacker(hostile, honest, isReading);
    attackers.push(attacker);
    service.serve(honest);
    return attacker;
  };
  try {
    return await run(open, folder);
  } finally {
    for (const attacker of attackers) attacker.destroy();
    await service.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

const startGet = (path: string): Buffer =>
  encodeMessage(COPY_KIND.START, {
    direction: 'get',
    sources: [{ path, name: 'file' }],
    isResumed: true,
    hasTotals: false,
  });

const START_PUT = (target: string, isResumed: boolean): Buffer =>
  Buffer.concat([
    encodeMessage(COPY_KIND.START, { direction: 'put', target, isResumed }),
    encodeMessage(COPY_KIND.PLAN, { roots: [{ name: 'app', kind: 'folder' }], totals: null }),
  ]);

const HASH = 'f'.repeat(64);

const stagedRecord = (names: readonly string[], hash = HASH): Buffer =>
  encodeMessage(COPY_KIND.STAGED, { files: names.map((name) => [name, 1, hash]) });

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** STAGED records to a service that has sent its plan. */
const holdStaged =
  (fullCount: number, record: (index: number) => Buffer) =>
  (scale: number): Promise<number> =>
    withService(SYSTEM_FILES, async (open, folder) => {
      writeFileSync(join(folder, 'file'), 'x');
      const before = await heapBytes();
      const attacker = open();
      await attacker.send(startGet(join(folder, 'file')));
      await attacker.heard(COPY_KIND.PLAN);
      return mostHeld(attacker, before, Math.ceil(fullCount * scale), record);
    });

/** A disk that accepts every file at once, and stores none of them. */
const NO_FILES: CopyFiles = {
  ...SYSTEM_FILES,
  open: () => Promise.resolve(-1),
  write: (_fd, buffers) => Promise.resolve(buffers.reduce((sum, { length }) => sum + length, 0)),
  futimes: () => Promise.resolve(),
  fchmod: () => Promise.resolve(),
  close: () => Promise.resolve(),
};

/** Entries without the end of a tar, in records. */
async function tarData(entries: readonly HostileEntry[]): Promise<Buffer> {
  return Buffer.concat(tarRecords(await withoutEnd(entries)).slice(0, -1));
}

async function withoutEnd(entries: readonly HostileEntry[]): Promise<Buffer> {
  const bytes = await makeTar(entries);
  return bytes.subarray(0, bytes.length - 1024);
}

const folderEntry = (name: string): HostileEntry => ({ name, type: 'directory', mode: 0o755 });

/** The folders above a path of `bytes` bytes, each with a name of `nameLength` bytes. */
function foldersAbove(bytes: number, nameLength: number): HostileEntry[] {
  const entries = [folderEntry('app')];
  for (let path = 'app'; path.length + nameLength < bytes; ) {
    path = `${path}/${'d'.repeat(nameLength)}`;
    entries.push(folderEntry(path));
  }
  return entries;
}

/** Copies entries to a service, in pieces of 50, after folders that exist already. */
const holdEntries =
  (
    fullCount: number,
    {
      files,
      isResumed,
      above,
      hasChecks,
    }: { files: CopyFiles; isResumed: boolean; above: readonly HostileEntry[]; hasChecks: boolean },
    entry: (index: number, folder: string) => HostileEntry,
  ) =>
  (scale: number): Promise<number> =>
    withService(files, async (open, folder) => {
      const before = await heapBytes();
      const attacker = open();
      await attacker.send(START_PUT(folder, isResumed));
      await attacker.heard(COPY_KIND.READY);
      await attacker.send(await tarData(above));
      const last = above.at(-1)?.name ?? '';
      return mostHeld(attacker, before, Math.ceil((fullCount * scale) / 50), async (index) => {
        const data = await tarData(numbers(50).map((number) => entry(50 * index + number, last)));
        return hasChecks ? Buffer.concat([data, encodeRecord(COPY_KIND.CHECKS, Buffer.alloc(200))]) : data;
      });
    });

const digits = (index: number): string => String(index).padStart(7, '0');

/** Bytes of a tar, each in a record of its own. */
function inBytes(bytes: Buffer): Buffer {
  const records = Buffer.alloc(6 * bytes.length);
  bytes.forEach((byte, index) => {
    records.writeUInt8(COPY_KIND.DATA, 6 * index);
    records.writeUInt32BE(1, 6 * index + 1);
    records.writeUInt8(byte, 6 * index + 5);
  });
  return records;
}

/** A tar in records of one byte, to a service whose disk never completes a write. */
const holdBytes =
  (bytes: (scale: number) => Promise<Buffer>) =>
  (scale: number): Promise<number> => {
    const goesOn = deferred();
    const write: CopyFiles['write'] = async (...all) => {
      await goesOn.promise;
      return NO_FILES.write(...all);
    };
    return withService({ ...NO_FILES, write }, async (open, folder) => {
      const records = inBytes(await bytes(scale));
      const before = await heapBytes();
      const attacker = open();
      await attacker.send(START_PUT(folder, false));
      await attacker.heard(COPY_KIND.READY);
      const piece = (index: number): Buffer => records.subarray(index * MIB, (index + 1) * MIB);
      const most = await mostHeld(attacker, before, Math.ceil(records.length / MIB), piece, true);
      goesOn.resolve();
      return most;
    });
  };

/** Records that were not asked for: the service sends a file that is not taken. */
const holdUnasked =
  (fullCount: number, piece: Buffer) =>
  (scale: number): Promise<number> =>
    withService(SYSTEM_FILES, async (open, folder) => {
      writeFileSync(join(folder, 'file'), Buffer.alloc(4 * MIB));
      const before = await heapBytes();
      const attacker = open(false);
      await attacker.send(startGet(join(folder, 'file')));
      await attacker.heard(COPY_KIND.PLAN);
      await attacker.send(encodeMessage(COPY_KIND.READY, { targets: ['/x'] }));
      return mostHeld(attacker, before, Math.ceil(fullCount * scale), () => piece, true);
    });

/** Streams that send this much and no more. */
const holdStreams =
  (fullCount: number, bytes: Buffer) =>
  (scale: number): Promise<number> =>
    withService(SYSTEM_FILES, async (open) => {
      const before = await heapBytes();
      const attackers = numbers(Math.ceil(fullCount * scale)).map(() => open());
      for (const attacker of attackers) await attacker.send(bytes);
      return (await heapBytes()) - before;
    });

export const COPY_CASES: readonly MemoryCase[] = [
  {
    title: 'staged files with the longest names',
    mostBytes: 48 * MIB,
    hold: holdStaged(600, (index) =>
      stagedRecord(numbers(240).map((number) => `${digits(240 * index + number)}${'n'.repeat(4089)}`)),
    ),
  },
  {
    title: 'files with the longest names, without their checks',
    mostBytes: 16 * MIB,
    hold: holdEntries(
      60_000,
      { files: NO_FILES, isResumed: false, above: foldersAbove(3700, 200), hasChecks: false },
      (index, folder) => ({ name: `${folder}/${'f'.repeat(200)}${digits(index)}`, body: '' }),
    ),
  },
  {
    title: 'files in one folder of a resumed copy',
    mostBytes: 3 * MIB,
    hold: holdEntries(
      200_000,
      { files: NO_FILES, isResumed: true, above: [folderEntry('app')], hasChecks: true },
      (index, folder) => ({ name: `${folder}/${'f'.repeat(200)}${digits(index)}`, body: '' }),
    ),
  },
  {
    title: 'folders within the longest paths',
    mostBytes: 16 * MIB,
    hold: holdEntries(
      4000,
      { files: SYSTEM_FILES, isResumed: false, above: foldersAbove(3600, 1), hasChecks: false },
      (index, folder) => folderEntry(`${folder}/${digits(index)}`),
    ),
  },
  {
    title: 'a large file, a byte at a time',
    mostBytes: 6 * MIB,
    hold: holdBytes((scale) =>
      withoutEnd([folderEntry('app'), { name: 'app/a', body: Buffer.alloc(3 * MIB * scale) }]),
    ),
  },
  {
    title: 'the longest records that nobody asks for',
    mostBytes: 6 * MIB,
    hold: holdUnasked(640, encodeRecord(COPY_KIND.WARNING, Buffer.alloc(MIB))),
  },
  {
    title: 'records of which nothing but the length comes',
    mostBytes: 4 * MIB,
    hold: holdStreams(64, encodeRecordHeader(COPY_KIND.START, MIB)),
  },
];

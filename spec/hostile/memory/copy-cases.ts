/**
 * The most that a peer can make a copy keep: of each kind of item the largest number of the smallest, or the largest, pieces. A
 * case returns the most bytes that this process held, after a garbage collection; `scale` is a part of what a peer can
 * send: 1 is all of it.
 */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { COPY_KIND, encodeMessage } from '../../../lib/services/copy/copy-messages.js';
import { CopyService } from '../../../lib/services/copy/copy-service.js';
import { type CopyFiles, SYSTEM_FILES } from '../../../lib/services/copy/system-files.js';
import { encodeRecord, encodeRecordHeader, RecordReader } from '../../../lib/util/bytes/records.js';
import { systemClock } from '../../../lib/util/clock.js';
import { deferred } from '../../../lib/util/concurrency.js';
import { duplexPair } from '../../helpers/channel-pair.js';
import { type HostileEntry, makeTar, tarRecords } from '../../helpers/hostile-copy.js';
import { heapBytes } from '../../helpers/measures.js';
import { holds, type MemoryCase } from './memory-case.js';

const MIB = 2 ** 20;

/** The most that a stream carries at once. */
const CHUNK_BYTES = 65_536;

/** How often the memory is measured while a case sends. */
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

  /** Sends bytes, and waits until they are read. Resolves with false if the other side reads no more. */
  async send(bytes: Buffer, canStick = false): Promise<boolean> {
    for (let at = 0; at < bytes.length && !this.isEnded; at += CHUNK_BYTES) {
      const sent = { isTaken: false };
      this.#stream.write(bytes.subarray(at, at + CHUNK_BYTES), () => (sent.isTaken = true));
      while (!sent.isTaken && !this.#isEnded) {
        await setImmediate();
        if (canStick && this.#honest.isPaused()) return false;
      }
    }
    return !this.isEnded;
  }

  /** Sends bytes, and waits for a record of the other side. */
  async sendUntil(kind: number, bytes: Buffer): Promise<void> {
    await this.send(bytes);
    while (!this.#kinds.has(kind) && !this.isEnded) await setImmediate();
  }

  destroy(): void {
    this.#stream.destroy();
  }
}

/** Sends all pieces, and returns the peak of the bytes held meanwhile, above `before`. */
async function mostHeld(
  attacker: Attacker,
  before: number,
  count: number,
  piece: (index: number) => Buffer | Promise<Buffer>,
  canStick = false,
): Promise<number> {
  let most = 0;
  const step = Math.max(1, Math.ceil(count / SAMPLES));
  for (let index = 0, isTaken = true; index < count && isTaken; index += 1) {
    isTaken = await attacker.send(await piece(index), canStick);
    if (!isTaken || index % step === step - 1 || index === count - 1)
      most = Math.max(most, (await heapBytes()) - before);
  }
  return most;
}

/** Runs a case in its own folder, against a service. */
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

const startGet = (path: string): Buffer => {
  const sources = [{ path, name: 'file' }];
  return encodeMessage(COPY_KIND.START, { direction: 'get', sources, isResumed: true, hasTotals: false });
};

const startPut = (target: string, isResumed: boolean): Buffer =>
  Buffer.concat([
    encodeMessage(COPY_KIND.START, { direction: 'put', target, isResumed }),
    encodeMessage(COPY_KIND.PLAN, { roots: [{ name: 'app', kind: 'folder' }], totals: null }),
  ]);

const stagedRecord = (names: readonly string[]): Buffer =>
  encodeMessage(COPY_KIND.STAGED, { files: names.map((name) => [name, 1, 'f'.repeat(64)]) });

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** STAGED records to a service that has sent its plan. */
const holdStaged =
  (fullCount: number, record: (index: number) => Buffer) =>
  (scale: number): Promise<number> =>
    withService(SYSTEM_FILES, async (open, folder) => {
      writeFileSync(join(folder, 'file'), 'x');
      const before = await heapBytes();
      const attacker = open();
      await attacker.sendUntil(COPY_KIND.PLAN, startGet(join(folder, 'file')));
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

/** Entries without the end of a tar. */
const withoutEnd = async (entries: readonly HostileEntry[]): Promise<Buffer> =>
  (await makeTar(entries)).subarray(0, -1024);

/** The same in records. */
const tarData = async (entries: readonly HostileEntry[]): Promise<Buffer> =>
  Buffer.concat(tarRecords(await withoutEnd(entries)).slice(0, -1));

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
    files: CopyFiles,
    { isResumed, above }: { readonly isResumed: boolean; readonly above: readonly HostileEntry[] },
    entry: (index: number, folder: string) => HostileEntry,
  ) =>
  (scale: number): Promise<number> =>
    withService(files, async (open, folder) => {
      const before = await heapBytes();
      const attacker = open();
      await attacker.sendUntil(COPY_KIND.READY, startPut(folder, isResumed));
      await attacker.send(await tarData(above));
      const last = above.at(-1)?.name ?? '';
      return mostHeld(attacker, before, Math.ceil((fullCount * scale) / 50), async (index) => {
        const data = await tarData(numbers(50).map((number) => entry(50 * index + number, last)));
        return isResumed ? Buffer.concat([data, encodeRecord(COPY_KIND.CHECKS, Buffer.alloc(200))]) : data;
      });
    });

const digits = (index: number): string => String(index).padStart(7, '0');

/** Bytes of a tar, one per record. */
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
      await attacker.sendUntil(COPY_KIND.READY, startPut(folder, false));
      const piece = (index: number): Buffer => records.subarray(index * MIB, (index + 1) * MIB);
      const most = await mostHeld(attacker, before, Math.ceil(records.length / MIB), piece, true);
      goesOn.resolve();
      return most;
    });
  };

/** Unrequested records: the service sends a file that is not read. */
const holdUnasked =
  (fullCount: number, piece: Buffer) =>
  (scale: number): Promise<number> =>
    withService(SYSTEM_FILES, async (open, folder) => {
      writeFileSync(join(folder, 'file'), Buffer.alloc(4 * MIB));
      const before = await heapBytes();
      const attacker = open(false);
      await attacker.sendUntil(COPY_KIND.PLAN, startGet(join(folder, 'file')));
      await attacker.send(encodeMessage(COPY_KIND.READY, { targets: ['/x'] }));
      return mostHeld(attacker, before, Math.ceil(fullCount * scale), () => piece, true);
    });

/** Streams that send this much and then nothing. */
const holdStreams =
  (fullCount: number, bytes: Buffer) =>
  (scale: number): Promise<number> =>
    withService(SYSTEM_FILES, async (open) => {
      const before = await heapBytes();
      const attackers = numbers(Math.ceil(fullCount * scale)).map(() => open());
      for (const attacker of attackers) await attacker.send(bytes);
      return (await heapBytes()) - before;
    });

const longFile = (index: number, folder: string): HostileEntry => {
  return { name: `${folder}/${'f'.repeat(200)}${digits(index)}`, body: '' };
};

const manyNames = (index: number): string[] =>
  numbers(240).map((number) => `${digits(240 * index + number)}${'n'.repeat(4089)}`);

const largeFile = (scale: number): Promise<Buffer> =>
  withoutEnd([folderEntry('app'), { name: 'app/a', body: Buffer.alloc(3 * MIB * scale) }]);

const CASES: readonly [title: string, mostBytes: number, hold: MemoryCase['hold']][] = [
  ['staged files with the longest names', 48 * MIB, holdStaged(600, (index) => stagedRecord(manyNames(index)))],
  [
    'files with the longest names, without their checks',
    16 * MIB,
    holdEntries(60_000, NO_FILES, { isResumed: false, above: foldersAbove(3700, 200) }, longFile),
  ],
  [
    'files in one folder of a resumed copy',
    3 * MIB,
    holdEntries(200_000, NO_FILES, { isResumed: true, above: [folderEntry('app')] }, longFile),
  ],
  [
    'folders within the longest paths',
    16 * MIB,
    holdEntries(4000, SYSTEM_FILES, { isResumed: false, above: foldersAbove(3600, 1) }, (index, folder) =>
      folderEntry(`${folder}/${digits(index)}`),
    ),
  ],
  ['a large file, a byte at a time', 6 * MIB, holdBytes(largeFile)],
  [
    'the longest records that nobody asks for',
    6 * MIB,
    holdUnasked(640, encodeRecord(COPY_KIND.WARNING, Buffer.alloc(MIB))),
  ],
  ['records of which nothing but the length comes', 4 * MIB, holdStreams(64, encodeRecordHeader(COPY_KIND.START, MIB))],
];

export const COPY_CASES: readonly MemoryCase[] = CASES.map((row) => holds(...row));

/** A side of a copy that sends whatever it likes. */
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type { ExecutionContext } from 'ava';
import tar, { type Headers } from 'tar-stream';
import { fetchFiles } from '../../lib/services/copy/copy-call.js';
import { COPY_KIND, encodeMessage } from '../../lib/services/copy/copy-messages.js';
import { CopyProgress } from '../../lib/services/copy/copy-progress.js';
import { CopyService } from '../../lib/services/copy/copy-service.js';
import { encodeRecord, RecordReader } from '../../lib/util/bytes/records.js';
import { systemClock } from '../../lib/util/clock.js';
import { duplexPair } from './channel-pair.js';
import { farSide } from './copy-pair.js';
import { within } from './time.js';

export type HostileEntry = Headers & { readonly body?: string | Buffer; readonly pax?: Record<string, string> };

export function makeTar(entries: readonly HostileEntry[]): Promise<Buffer> {
  const pack = tar.pack();
  for (const { body = '', ...header } of entries) {
    if (header.type === 'file' || header.type === undefined) pack.entry({ type: 'file', ...header }, body);
    else pack.entry(header).end();
  }
  pack.finalize();
  return buffer(pack);
}

/** A header that tar-stream never writes, and its contents, in whole blocks. `size` may lie. */
export function rawEntry(kind: string, contents: Buffer, size = contents.length): Buffer {
  const blocks = Buffer.alloc(512 * (1 + Math.ceil(contents.length / 512)));
  blocks.write('name');
  blocks.write('0000644 0000000 0000000 ', 100);
  blocks.write(`${size.toString(8).padStart(11, '0')} 00000000000 `, 124);
  blocks.write('        ', 148);
  blocks.write(kind, 156);
  blocks.write('ustar\x0000', 257);
  const sum = blocks.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  blocks.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  contents.copy(blocks, 512);
  return blocks;
}

/** The contents of a pax header with `count` keys. */
export const paxOf = (count: number): Buffer =>
  Buffer.from(Array.from({ length: count }, (_, index) => `11 k${String(index).padStart(4, '0')}=v\n`).join(''));

/** The place of a hostile side: the caller of a service, or the service of a caller. */
export type HostilePlace = 'put' | 'get';

/** Another program only has the service. */
export const hostilePlaces = (): readonly HostilePlace[] => (farSide.start === null ? ['put', 'get'] : ['put']);

export interface HostileCopy {
  /** The roots that it announces. Default: a folder `app`. */
  readonly roots?: readonly { readonly name: string; readonly kind: string }[];
  readonly records: readonly Buffer[];
  /** Called before they are sent, when the honest side has said what it has. */
  readonly onReady?: () => void;
  readonly isResumed?: boolean;
  readonly keepsLinks?: boolean;
}

export const tarRecords = (bytes: Buffer): Buffer[] => [
  ...Array.from({ length: Math.ceil(bytes.length / 65_536) }, (_, index) =>
    encodeRecord(COPY_KIND.DATA, bytes.subarray(index * 65_536, (index + 1) * 65_536)),
  ),
  encodeMessage(COPY_KIND.END, {}),
];

/** Lets a hostile side copy into `target`, and returns the code with which the honest side refused it. */
export async function sendHostile(
  t: ExecutionContext,
  place: HostilePlace,
  target: string,
  {
    roots = [{ name: 'app', kind: 'folder' }],
    records,
    onReady = () => undefined,
    isResumed = false,
    keepsLinks = false,
  }: HostileCopy,
): Promise<string> {
  const [honest, near] = duplexPair();
  const hostile = farSide.start === null ? near : await (await farSide.start(t, null))();
  const plan = encodeMessage(COPY_KIND.PLAN, { roots, totals: null });
  honest.on('error', () => undefined);
  hostile.on('error', () => undefined);
  const answered = answer(hostile, COPY_KIND.READY, records, onReady);
  if (place === 'get') {
    hostile.write(plan);
    const outcome = fetchFiles(['/far/app'], target, {
      open: () => Promise.resolve(honest),
      isResumed,
      keepsLinks,
      hasTotals: false,
      progress: new CopyProgress(),
      warn: () => undefined,
    });
    const code = outcome.then(
      () => 'done',
      (error: unknown) => (error as { code: string }).code,
    );
    return within(30_000, 'the end of the copy', code);
  }
  const service = new CopyService({ root: null, clock: systemClock, log: () => undefined });
  t.teardown(() => service.stop());
  if (farSide.start === null) service.serve(honest);
  hostile.write(encodeMessage(COPY_KIND.START, { direction: 'put', target, isResumed, keepsLinks }));
  hostile.write(plan);
  return (await within(30_000, 'an answer', answered)).code;
}

interface Refused {
  readonly code: string;
  readonly message: string;
}

/** Sends the records after one of this kind; resolves with the code of the ERROR received, or `done` or `closed`. */
function answer(
  stream: Duplex,
  after: number,
  records: readonly Buffer[],
  before: () => void = () => undefined,
): Promise<Refused> {
  return new Promise((resolve) => {
    const reader = new RecordReader({
      pieces: new Set([COPY_KIND.DATA]),
      onPiece: () => undefined,
      onRecord: (kind, payload) => {
        if (kind === after) {
          before();
          for (const record of records) stream.write(record);
        }
        if (kind !== COPY_KIND.ERROR && kind !== COPY_KIND.DONE) return;
        resolve(kind === COPY_KIND.DONE ? { code: 'done', message: '' } : (JSON.parse(payload.toString()) as Refused));
        stream.end();
      },
    });
    stream.on('data', (chunk: Buffer) => reader.push(chunk));
    stream.on('close', () => resolve({ code: 'closed', message: '' }));
  });
}

/** A caller that requests a file, and answers the plan with these records. Resolves with the service's failure. */
export function tellService(service: CopyService, path: string, records: readonly Buffer[]): Promise<Refused> {
  const [honest, hostile] = duplexPair();
  const answered = answer(hostile, COPY_KIND.PLAN, records);
  service.serve(honest);
  const sources = [{ path, name: 'file' }];
  hostile.write(encodeMessage(COPY_KIND.START, { direction: 'get', sources, isResumed: true, hasTotals: false }));
  return within(30_000, 'an answer', answered);
}

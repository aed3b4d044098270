/** The service `sftp`: lets clients of SFTP use the files of this machine, where copies are permitted. */
import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import { Accounts } from '../../system/accounts.js';
import type { Clock } from '../../util/clock.js';
import { Change, LoopTurns, Turns } from '../../util/concurrency.js';
import { escapeText } from '../../util/escape.js';
import type { CopyPermission } from '../copy/copy-service.js';
import { Homes, systemError } from '../copy/named-paths.js';
import { SFTP_OPERATIONS, SFTP_TURNS, SftpFiles, statusOf } from './sftp-files.js';
import { MAX_SFTP_STREAMS, SFTP_EXTENSIONS, SFTP_KIND, SFTP_STATUS, SFTP_VERSION } from './sftp-numbers.js';
import { encodeDataHead, encodePacket, malformed, type SftpFields, SftpReader } from './sftp-packets.js';
import { latinOf, SftpPlaces } from './sftp-places.js';

/**
 * How many READs of a stream run at the same time; all other requests run one after the other. Answers keep the order of the requests:
 * scp of some versions of OpenSSH truncates a file whose data arrives out of order.
 */
const MAX_READS = 2;

/** Answers of a stream that have not left, in bytes, before the next request waits. */
const MAX_UNSENT_BYTES = 262_144;

export interface SftpServiceOptions extends CopyPermission {
  readonly clock: Clock;
  readonly log: Log;
  readonly accounts?: Accounts;
}

export class SftpService {
  readonly #options: SftpServiceOptions;
  #root: string | null;
  readonly #accounts: Accounts;
  /** Shared, so that one of many streams does not delay everything else. */
  readonly #turns = new LoopTurns();
  readonly #running = new Map<Duplex, Promise<void>>();

  constructor(options: SftpServiceOptions) {
    this.#options = options;
    this.#root = options.root;
    this.#accounts = options.accounts ?? new Accounts();
  }

  /** Replaces the permission; it ends the streams that had another one. */
  allow(permission: CopyPermission | null): void {
    if (permission !== null && permission.root === this.#root) return;
    this.#end(new VproxyError('denied', 'sftp is no longer allowed, or in another folder'));
    if (permission !== null) this.#root = permission.root;
  }

  /** Serves a stream that the peer opened, and takes ownership of it. */
  serve(stream: Duplex): void {
    stream.on('error', () => undefined);
    if (this.#running.size >= MAX_SFTP_STREAMS) {
      stream.destroy(new VproxyError('too-many-streams', `too many sftp streams (max ${MAX_SFTP_STREAMS})`));
      return;
    }
    const done = this.#run(stream).finally(() => this.#running.delete(stream));
    this.#running.set(stream, done);
  }

  /** Streams that have closed while a request was carried out. */
  get unfinished(): string[] {
    return [...this.#running.keys()].filter(({ destroyed }) => destroyed).map(() => 'an sftp request that ends');
  }

  /** Ends all streams; resolves once nothing is being written. */
  async stop(): Promise<void> {
    this.#end(new VproxyError('shutdown', 'shutting down'));
    await Promise.all(this.#running.values());
  }

  #end(reason: VproxyError): void {
    for (const stream of this.#running.keys()) stream.destroy(reason);
  }

  async #run(stream: Duplex): Promise<void> {
    const { clock, log } = this.#options;
    const root = this.#root;
    const startedAtMs = clock.now();
    log(makeEvent('sftp-started', `sftp: started${root === null ? '' : ` in ${escapeText(root)}`}`, { root }));
    const start = root ?? (await new Homes(null, this.#accounts).resolve('').catch(() => '/'));
    const call = new SftpCall(stream, () => new SftpPlaces(root, latinOf(start)), this.#turns);
    const error = await call.run().then(() => null, toVproxyError);
    if (error === null) stream.end();
    else stream.destroy(error);
    const { files, refusedCount } = call;
    const { openedCount, readBytes, writtenBytes, paths } = files;
    const counts = [`${openedCount} opened`, `${readBytes} bytes read`, `${writtenBytes} bytes written`];
    const outcome = [...counts, `${refusedCount} refused`].join(', ');
    const message = error === null ? `sftp: ${outcome}` : `${escapeText(error.message)} (${error.code}); ${outcome}`;
    const fields = {
      ...{ paths, opened: openedCount, readBytes, writtenBytes, refused: refusedCount },
      ...{ durationMs: Math.round(clock.now() - startedAtMs), code: error?.code ?? null },
    };
    log(makeEvent('sftp-ended', message, fields, error === null ? 'info' : 'warn'));
  }
}

const DONE = [SFTP_KIND.STATUS, SFTP_STATUS.OK, 'success', ''] as const;

const refuseUnknown = (): Promise<typeof DONE> => Promise.reject(systemError('ENOSYS'));

/** One stream. */
class SftpCall {
  readonly files = new SftpFiles();
  refusedCount = 0;
  readonly #stream: Duplex;
  readonly #reader: SftpReader;
  readonly #makePlaces: () => SftpPlaces;
  readonly #turns: LoopTurns;
  readonly #reads = new Turns(MAX_READS);
  /** Resolves when the last READ has been answered. */
  #last = Promise.resolve();
  #fault: VproxyError | null = null;
  #isReady = false;
  #unsentBytes = 0;
  readonly #sent = new Change();

  constructor(stream: Duplex, makePlaces: () => SftpPlaces, turns: LoopTurns) {
    this.#stream = stream;
    this.#reader = new SftpReader(stream);
    this.#makePlaces = makePlaces;
    this.#turns = turns;
    stream.on('close', () => this.#sent.announce());
  }

  /** Carries out requests until the stream ends, and all answers have left. Rejects with `protocol-error` for a malformed packet. */
  async run(): Promise<void> {
    try {
      for (;;) {
        await this.#unsentBelow(MAX_UNSENT_BYTES);
        const fields = await this.#reader.next();
        if (fields === null || this.#stream.destroyed) break;
        await this.#handle(fields);
      }
    } finally {
      await this.#reads.idle();
      await SFTP_TURNS.run(null, () => this.files.closeAll());
    }
    await this.#unsentBelow(0);
    if (this.#fault !== null) throw this.#fault;
  }

  /** Waits until no more bytes of answers have not left. */
  async #unsentBelow(byteCount: number): Promise<void> {
    while (this.#unsentBytes > byteCount && !this.#stream.destroyed) await this.#sent.next();
  }

  async #handle(fields: SftpFields): Promise<void> {
    const kind = fields.byte();
    if (kind === SFTP_KIND.READ && this.#isReady) {
      await this.#reads.start(() => {
        this.#last = this.#answer(kind, fields, this.#last);
        return this.#last;
      });
      return;
    }
    await this.#reads.idle();
    if (kind === SFTP_KIND.INIT || !this.#isReady) {
      if (kind !== SFTP_KIND.INIT) throw malformed(`kind ${kind} instead of INIT`);
      fields.number();
      this.#isReady = true;
      this.#send(encodePacket(SFTP_KIND.VERSION, SFTP_VERSION, ...Object.entries(SFTP_EXTENSIONS).flat()));
    } else await this.#answer(kind, fields);
  }

  /** Carries out a request, and answers it after `before`. Never rejects: for a malformed packet, it sets the fault of the stream. */
  async #answer(kind: number, fields: SftpFields, before = Promise.resolve()): Promise<void> {
    const places = this.#makePlaces();
    try {
      const id = fields.number();
      const operation = SFTP_OPERATIONS.get(kind === SFTP_KIND.EXTENDED ? fields.text() : kind) ?? refuseUnknown;
      const request = { fields, places, files: this.files };
      const work = async () => (await (this.#stream.destroyed ? refuseUnknown : operation)(request)) ?? DONE;
      const run = () => this.#turns.run(work).finally(() => places.close());
      const done = kind === SFTP_KIND.READDIR ? run() : SFTP_TURNS.run(null, run);
      const [answerKind, ...values] = await done.catch((error: unknown) => this.#refuse(error));
      await before;
      const [data] = values;
      // A short read must not keep the whole buffer.
      const isFull = data instanceof Buffer && 2 * data.length >= data.buffer.byteLength;
      if (answerKind === SFTP_KIND.DATA && isFull) this.#send(encodeDataHead(id, data), data);
      else this.#send(encodePacket(answerKind, id, ...values));
    } catch (error) {
      this.#fault = toVproxyError(error);
      this.#stream.destroy(this.#fault);
    }
  }

  #refuse(error: unknown) {
    if (error instanceof VproxyError && error.code === 'protocol-error') throw error;
    const [code, message] = statusOf(error);
    if (code === SFTP_STATUS.PERMISSION_DENIED) this.refusedCount += 1;
    return [SFTP_KIND.STATUS, code, message, ''] as const;
  }

  #send(...parts: readonly Buffer[]): void {
    this.#stream.cork();
    for (const part of this.#stream.destroyed ? [] : parts) {
      this.#unsentBytes += part.length;
      this.#stream.write(part, () => {
        this.#unsentBytes -= part.length;
        this.#sent.announce();
      });
    }
    this.#stream.uncork();
  }
}

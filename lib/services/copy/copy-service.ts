/** The service `copy`: lets the peer copy files to and from this machine. */

import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import { Accounts } from '../../system/accounts.js';
import { Budget } from '../../util/bounds.js';
import type { Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import { formatCount } from '../../util/units.js';
import { COPY_KIND, type CopyRequest, type CopySource, decodeStart, pathsOf } from './copy-messages.js';
import { CopyProgress } from './copy-progress.js';
import { KeptLists, MAX_KEPT_BYTES } from './kept-list.js';
import { Homes } from './named-paths.js';
import { receiveFiles } from './receiver.js';
import { RecordStream } from './record-stream.js';
import { sendFiles } from './sender.js';
import { findSources } from './sources.js';
import { type CopyFiles, SYSTEM_FILES } from './system-files.js';

/** How long the caller may take to end its stream after the outcome. */
const END_MS = 10_000;

const MAX_COPIES = 64;

/** The files that the peer may read and write. */
export interface CopyPermission {
  /** The folder that copies are confined to, an absolute path; null: anywhere. */
  readonly root: string | null;
}

export interface CopyServiceOptions extends CopyPermission {
  readonly clock: Clock;
  readonly log: Log;
  readonly files?: CopyFiles;
  /** For home directories. Default: those of this machine. */
  readonly accounts?: Accounts;
}

export class CopyService {
  readonly #options: CopyServiceOptions;
  #permission: CopyPermission | null;
  readonly #accounts: Accounts;
  readonly #running = new Map<RecordStream, Promise<void>>();
  /** Shared by the lists of all copies. */
  readonly #budget = new Budget(MAX_KEPT_BYTES);
  #isStopped = false;

  constructor(options: CopyServiceOptions) {
    this.#options = options;
    this.#permission = options;
    this.#accounts = options.accounts ?? new Accounts();
  }

  /** Replaces the permission, for copies that are not requested yet; null denies them. */
  allow(permission: CopyPermission | null): void {
    this.#permission = permission;
  }

  get runningCount(): number {
    return this.#running.size;
  }

  /** Serves a stream that the peer opened, and takes ownership of it. */
  serve(stream: Duplex): void {
    const records = new RecordStream(stream);
    if (this.#isStopped || this.#running.size >= MAX_COPIES) {
      const error = new VproxyError('too-many-streams', `too many copies (max ${MAX_COPIES})`);
      this.#end(records, stream, error);
      return;
    }
    const done = this.#run(records, stream).finally(() => this.#running.delete(records));
    this.#running.set(records, done);
  }

  /** Copies whose streams have closed; they end once nothing is being written or removed. */
  get unfinished(): string[] {
    return [...this.#running.keys()].filter(({ isClosed }) => isClosed).map(() => 'a copy that ends');
  }

  /** Interrupts running copies, as if their streams were lost; resolves once nothing is being written. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    const running = [...this.#running];
    for (const [records] of running) records.destroy(new VproxyError('shutdown', 'shutting down'));
    await Promise.all(running.map(([, done]) => done));
  }

  async #run(records: RecordStream, stream: Duplex): Promise<void> {
    let error: VproxyError | null = null;
    const lists = new KeptLists(this.#budget);
    try {
      await this.#copy(decodeStart(await records.expect(COPY_KIND.START)), records, lists);
    } catch (failure) {
      error = toVproxyError(failure, 'copy-failed');
    }
    lists.release();
    this.#end(records, stream, error);
  }

  async #copy(named: CopyRequest, records: RecordStream, lists: KeptLists): Promise<void> {
    const { clock, files = SYSTEM_FILES } = this.#options;
    const permission = this.#permission;
    const { root } = permission ?? this.#options;
    const { isComparisonTold } = named;
    // In a folder that copies are confined to, a peer must not make links to lead other copies out of it.
    const keepsLinks = named.keepsLinks && (named.direction === 'get' || root === null);
    const run = { records, lists, progress: new CopyProgress(), warn: () => undefined, isComparisonTold, keepsLinks };
    const startedAtMs = clock.now();
    let request = named;
    let hasBegun = false;
    const begin = (): void => {
      if (!hasBegun)
        this.#options.log(makeEvent('copy-started', `${describeCopy(request)}: started`, copyFields(request)));
      hasBegun = true;
    };
    try {
      if (permission === null) throw new VproxyError('denied', 'copies are no longer allowed');
      request = await this.#resolve(named, root);
      if (request.direction === 'put') {
        const { target, isResumed } = request;
        await receiveFiles({ ...run, target, root, names: null, isResumed, files, onTargets: begin });
      } else {
        const sources = await findSources(request.sources, root, lists);
        begin();
        await sendFiles({ ...run, sources, hasTotals: request.hasTotals });
      }
      this.#logEnd(request, run.progress, clock.now() - startedAtMs, null);
    } catch (failure) {
      const error = toVproxyError(failure, 'copy-failed');
      // A refused copy never started.
      if (!REFUSALS.has(error.code)) begin();
      this.#logEnd(request, run.progress, clock.now() - startedAtMs, error);
      throw error;
    }
  }

  /** The request with absolute paths. Rejects like {@link Homes.resolve}. */
  async #resolve(request: CopyRequest, root: string | null): Promise<CopyRequest> {
    const homes = new Homes(root, this.#accounts);
    if (request.direction === 'put') return { ...request, target: await homes.resolve(request.target) };
    const sources: CopySource[] = [];
    for (const { path, name } of request.sources) sources.push({ path: await homes.resolve(path), name });
    return { ...request, sources };
  }

  /** Sends the outcome, and closes the stream once the caller has received it, or on timeout. */
  #end(records: RecordStream, stream: Duplex, error: VproxyError | null): void {
    records.close(error);
    const cancel = this.#options.clock.schedule(END_MS, () => stream.destroy());
    stream.once('close', cancel);
    if (stream.destroyed) cancel();
  }

  #logEnd(request: CopyRequest, progress: CopyProgress, durationMs: number, error: VproxyError | null): void {
    const { bytes, sentBytes, files, folders, links } = progress;
    const outcome =
      error === null ? `${formatCount(files, 'file')}, ${bytes} bytes` : `${escapeText(error.message)} (${error.code})`;
    const message = `${describeCopy(request)}: ${outcome}`;
    const fields = {
      ...copyFields(request),
      ...{ files, folders, links, bytes, sentBytes },
      durationMs: Math.round(durationMs),
      code: error?.code ?? null,
    };
    const isRefused = error !== null && REFUSALS.has(error.code);
    if (isRefused) this.#options.log(makeEvent('copy-refused', message, fields));
    else this.#options.log(makeEvent('copy-ended', message, fields, error === null ? 'info' : 'warn'));
  }
}

const copyFields = (request: CopyRequest) => ({
  direction: request.direction,
  paths: pathsOf(request).slice(0, MAX_LOGGED_PATHS),
});

function describeCopy(request: CopyRequest): string {
  const { direction, paths } = copyFields(request);
  return `copy ${direction === 'put' ? 'to' : 'from'} ${escapeText(paths.join(', '), 512)}`;
}

const MAX_LOGGED_PATHS = 32;

/** Codes for requests that are not allowed, as opposed to failures. */
const REFUSALS: ReadonlySet<string> = new Set(['denied', 'copy-refused', 'protocol-error']);

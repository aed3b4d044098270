/** The caller's side of a copy, over a stream to the peer's service `copy`. */
import { resolve } from 'node:path';
import type { Duplex } from 'node:stream';
import { badArgument, toVproxyError, VproxyError } from '../../errors.js';
import { systemClock } from '../../util/clock.js';
import { onAbort } from '../../util/concurrency.js';
import { COPY_KIND, type CopyRequest, encodeMessage, pathsOf } from './copy-messages.js';
import { CopyProgress, type CopyRun, type RunningComparison } from './copy-progress.js';
import { KeptLists, type Warn } from './kept-list.js';
import { isFromHome, nameRemoteSource, nameSource, requireNameable } from './named-paths.js';
import { receiveFiles } from './receiver.js';
import { RecordStream } from './record-stream.js';
import { sendFiles } from './sender.js';
import { findSources } from './sources.js';
import { type CopyFiles, SYSTEM_FILES } from './system-files.js';
import { OUTSIDE } from './tar/entry.js';

export interface CopyCallOptions {
  /** Opens a stream to the service; called after the local files have been checked. */
  readonly open: () => Promise<Duplex>;
  readonly isResumed: boolean;
  /** Whether to copy links that point outside the copied tree as they are, instead of refusing them. Default: false. */
  readonly keepsLinks?: boolean;
  /** Whether to report totals, which requires reading all sources first. */
  readonly hasTotals: boolean;
  /** Updated while the copy runs. */
  readonly progress: CopyProgress;
  /** Receives the first thousand warnings, and at the end the number of the others: `and 12,345 more`. */
  readonly warn: Warn;
  /** Interrupts the copy. */
  readonly signal?: AbortSignal;
  /** Whether a later copy can resume one that was interrupted; otherwise its part is removed, if the peer still answers. Default true. */
  readonly keepsPart?: boolean;
  readonly files?: CopyFiles;
}

/**
 * Copies local files and folders to the peer's machine; a relative `target` starts in a home directory there. Resolves with the
 * paths of the copies. Rejects with `copy-failed`, `copy-refused`, `denied`, `cancelled`, or the error of the stream.
 */
export async function putFiles(
  sources: readonly string[],
  target: string,
  options: CopyCallOptions,
): Promise<string[]> {
  const lists = new KeptLists();
  requireNameable(target);
  const found = await findSources(sources.map(nameSource), null, lists);
  const { isResumed, hasTotals, keepsLinks = false } = options;
  return call({ direction: 'put', target, isResumed, isComparisonTold: isResumed, keepsLinks }, options, lists, (run) =>
    sendFiles({ ...run, sources: found, hasTotals }),
  );
}

/**
 * Copies files and folders of the peer's machine to this one; relative sources start in a home directory there. Resolves with the
 * paths of the copies; rejects like {@link putFiles}.
 */
export async function fetchFiles(
  sources: readonly string[],
  target: string,
  options: CopyCallOptions,
): Promise<string[]> {
  const named = sources.map(nameRemoteSource);
  const names = named.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new VproxyError('copy-refused', `two sources are named ${twice}`);
  const { isResumed, hasTotals, keepsLinks = false, files = SYSTEM_FILES } = options;
  // A trailing slash means a folder.
  const here = target.endsWith('/') ? `${resolve(target)}/` : resolve(target);
  const flags = { isResumed, isComparisonTold: isResumed, keepsLinks, hasTotals };
  const request = { direction: 'get', sources: named, ...flags } as const;
  return call(request, options, new KeptLists(), (run) =>
    receiveFiles({ ...run, target: here, root: null, names, isResumed, files }),
  );
}

async function call(
  request: CopyRequest,
  { open, signal, progress, warn, keepsPart = true }: CopyCallOptions,
  lists: KeptLists,
  copy: (run: CopyRun) => Promise<string[]>,
): Promise<string[]> {
  const { keepsLinks } = request;
  const stream = await open();
  const records = new RecordStream(stream);
  const abort = (): void => {
    const reason = new VproxyError('cancelled', 'copy cancelled');
    if (keepsPart) records.destroy(reason);
    else records.fail(reason);
  };
  signal?.addEventListener('abort', abort, { once: true });
  try {
    if (signal?.aborted === true) abort();
    await records.send(encodeMessage(COPY_KIND.START, request));
    const targets = await copy({ records, lists, progress, warn, isComparisonTold: false, keepsLinks });
    await ended(records, stream, null);
    return targets;
  } catch (error) {
    progress.isResumable = records.isLost;
    const isFromPeer = records.isFailureFromPeer;
    await ended(records, stream, toVproxyError(error, 'copy-failed'));
    throw explain(error, request, isFromPeer);
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

/** Explains errors about links, and those about relative paths, which an older peer does not support. */
function explain(error: unknown, request: CopyRequest, isFromPeer: boolean): unknown {
  if (!(error instanceof VproxyError)) return error;
  const { code, message } = error;
  if (code === 'copy-refused' && message.includes(OUTSIDE)) {
    const hint = request.keepsLinks
      ? 'the peer keeps no such links: its vproxy is older, or allows copies only in one folder'
      : '--links=keep copies links as they are';
    return new VproxyError(code, `${message}; ${hint}`, { cause: error });
  }
  if (!isFromPeer || !pathsOf(request).some(isFromHome)) return error;
  if (code === 'protocol-error' && message.includes(' START: ')) {
    const what = 'the peer runs an older vproxy, which takes only absolute paths';
    return new VproxyError('copy-refused', what, { cause: error });
  }
  if (code !== 'denied') return error;
  const where = 'a relative path starts in the home directory of the remote user';
  return new VproxyError(code, `${message}; ${where}`, { cause: error });
}

/** How long the peer may take to end its direction. */
const END_MS = 2000;

/** Sends the outcome, and waits until the peer has received it. */
async function ended(records: RecordStream, stream: Duplex, error: VproxyError | null): Promise<void> {
  if (stream.destroyed) return;
  await new Promise<void>((settle) => {
    const cancel = systemClock.schedule(END_MS, settle);
    const settled = (): void => {
      cancel();
      settle();
    };
    stream.once('close', settled).once('end', settled);
    records.close(error);
    if (stream.readableEnded) settled();
  });
  stream.destroy();
}

// A copy made by a program in one call.

/** The interval between reports of the progress, in milliseconds. */
export const REPORT_MS = 100;

/** How far a copy is. */
export interface CopyReport extends CopyCounts {
  /** The path of the current entry in the copy; empty before the first. */
  readonly path: string;
  /** The number of all bytes; null while unknown. */
  readonly totalBytes: number | null;
  /** While an interrupted copy is compared: which side reads, and how far it is; otherwise null. */
  readonly comparing: RunningComparison | null;
}

/** The amounts of a copy. */
export interface CopyCounts {
  /** Files. */
  readonly files: number;
  /** Folders. */
  readonly folders: number;
  /** Symbolic links. */
  readonly links: number;
  /** Bytes of all files, including those that an earlier copy left. */
  readonly bytes: number;
  /** Bytes of files that were sent. */
  readonly sentBytes: number;
  /** Bytes that an earlier copy left. */
  readonly resumedBytes: number;
}

/** What was copied. */
export interface CopyOutcome extends CopyCounts {
  /** How long it took, in milliseconds. */
  readonly durationMs: number;
  /** The paths of the copies. */
  readonly targets: readonly string[];
  /** What was skipped or changed meanwhile; the first thousand, and then the number of the others. */
  readonly warnings: readonly string[];
}

/** Options for a copy. */
export interface CopyOptions {
  /** Whether to continue an interrupted copy, after comparing what it left. Default false. */
  readonly resume?: boolean | undefined;
  /** Whether a copy that is cancelled leaves its part, to be continued; one whose channel is lost always does. Default: as `resume`. */
  readonly keepPart?: boolean | undefined;
  /** Links that point outside the copied tree: keep them as they are, or refuse the copy. Default `refuse`. */
  readonly links?: 'keep' | 'refuse' | undefined;
  /** Called at most ten times a second while it runs. All sources are counted first then. If it throws, the copy is cancelled, and rejects with that. */
  readonly onProgress?: ((report: CopyReport) => void) | undefined;
  /** Cancels it: it rejects with `cancelled`. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Copies files and folders to the peer's machine (`put`) or from it (`get`). Rejects with `copy-failed`, `copy-refused`, `denied`,
 * `cancelled`, or the error of the stream.
 */
export async function copyFiles(
  direction: 'put' | 'get',
  sources: readonly string[],
  target: string,
  open: () => Promise<Duplex>,
  { resume = false, keepPart = resume, links = 'refuse', onProgress, signal }: CopyOptions = {},
): Promise<CopyOutcome> {
  if (sources.length === 0) throw badArgument('a copy needs a source');
  // Here it would be the working directory, not the home directory as there.
  if ((direction === 'put' ? sources : [target]).includes('')) throw badArgument('empty path');
  const progress = new CopyProgress();
  const warnings: string[] = [];
  const startedAtMs = performance.now();
  const cancelling = new AbortController();
  const forget = onAbort(signal, () => cancelling.abort());
  const thrown: unknown[] = [];
  const report = (each: CopyReport): void => {
    try {
      onProgress?.(each);
    } catch (error) {
      thrown.push(error);
      cancelling.abort();
    }
  };
  const stop = onProgress === undefined ? null : reportOften(progress, report);
  try {
    const targets = await (direction === 'put' ? putFiles : fetchFiles)(sources, target, {
      open: () =>
        open().catch((error: unknown) => {
          throw explainRefusal(error);
        }),
      ...{ progress, isResumed: resume, keepsPart: keepPart, keepsLinks: links === 'keep' },
      hasTotals: onProgress !== undefined,
      warn: (message) => warnings.push(message),
      signal: cancelling.signal,
    });
    return outcomeOf(progress, startedAtMs, targets, warnings);
  } finally {
    stop?.();
    forget();
    // biome-ignore lint/correctness/noUnsafeFinally: it is the reason of whatever else has failed.
    if (thrown.length > 0) throw thrown[0];
  }
}

/** The answers of a peer that does not offer the service, or not to this side. */
const REFUSALS: ReadonlySet<string> = new Set(['unknown-service', 'denied']);

/** The error for a stream to the service that could not be opened: `denied` if the peer does not allow copies. */
export function explainRefusal(error: unknown): unknown {
  if (!(error instanceof VproxyError) || !REFUSALS.has(error.code)) return error;
  const message = 'the other side does not allow copies; run vproxy with --allow-copy there';
  return new VproxyError('denied', message, { cause: error });
}

/** The outcome of a copy that is complete, and began at `startedAtMs` of the clock of this process. */
export function outcomeOf(
  progress: CopyProgress,
  startedAtMs: number,
  targets: readonly string[],
  warnings: readonly string[],
): CopyOutcome {
  return { ...countsOf(progress), durationMs: Math.round(performance.now() - startedAtMs), targets, warnings };
}

const countsOf = ({ files, folders, links, bytes, sentBytes, resumedBytes }: CopyProgress): CopyCounts => ({
  ...{ files, folders, links, bytes, sentBytes, resumedBytes },
});

/** Reports the progress now and then, until the returned function is called, which reports it once more. */
export function reportOften(progress: CopyProgress, onProgress: (report: CopyReport) => void): () => void {
  const report = (): void => {
    const { path, totals, comparison: comparing } = progress;
    onProgress({ path, totalBytes: totals?.bytes ?? null, comparing, ...countsOf(progress) });
  };
  const timer = setInterval(report, REPORT_MS);
  timer.unref();
  return () => {
    clearInterval(timer);
    report();
  };
}

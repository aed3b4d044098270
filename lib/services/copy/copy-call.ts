/** The caller's side of a copy, over a stream to the peer's service `copy`. */
import { resolve } from 'node:path';
import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../../errors.js';
import { systemClock } from '../../util/clock.js';
import { COPY_KIND, type CopyRequest, encodeMessage, pathsOf } from './copy-messages.js';
import type { CopyProgress, CopyRun } from './copy-progress.js';
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
  /** Interrupts the copy; a later one can resume it. */
  readonly signal?: AbortSignal;
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
  { open, signal, progress, warn }: CopyCallOptions,
  lists: KeptLists,
  copy: (run: CopyRun) => Promise<string[]>,
): Promise<string[]> {
  const { keepsLinks } = request;
  const stream = await open();
  const records = new RecordStream(stream);
  const abort = (): void => records.destroy(new VproxyError('cancelled', 'copy cancelled'));
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

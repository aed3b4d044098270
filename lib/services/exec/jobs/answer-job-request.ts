/** The runner's end of a stream that lists jobs, reads one, or ends one. */
import type { Duplex } from 'node:stream';
import { VproxyError } from '../../../errors.js';
import { usageOfSessions } from '../../../system/proc/session-usage.js';
import type { Budget } from '../../../util/bounds.js';
import { encodeRecord } from '../../../util/bytes/records.js';
import type { LoopTurns } from '../../../util/concurrency.js';
import { escapeText } from '../../../util/escape.js';
import { DEFAULT_KILL_AFTER_MS, EXEC_KIND, encodeCredit, encodeExit, notRun } from '../exec-messages.js';
import type { Job } from './job.js';
import { decodeJobRequest, encodeJson, type JobRequest } from './job-messages.js';
import type { JobTable } from './job-table.js';

/** Limit on the bytes that all readers hold besides the rings, and bounds on the share of each. */
const READERS_BYTES = 8_388_608;
const CHUNK_BYTES = { min: 4096, max: 65_536 };

/** What the requests on a channel share. */
export interface JobHost {
  readonly jobs: JobTable;
  /** Limits the work per turn of the event loop. */
  readonly turns: LoopTurns;
  /** Counts the bytes of lists that their callers have not read. */
  readonly listBudget: Budget;
}

/**
 * Answers LIST, ATTACH or STOP, and ends the stream. Throws `bad-argument`, `too-many-streams` for a list, and what `takeInput`
 * throws, which makes the caller the writer of a running job and returns its credit; after null, it is called again.
 */
export function answerJobRequest(
  stream: Duplex,
  host: JobHost,
  kind: number,
  payload: Buffer,
  takeInput: (job: Job, request: JobRequest) => number | null,
): void {
  const { jobs } = host;
  if (kind === EXEC_KIND.LIST) {
    sendList(stream, host);
    return;
  }
  const request = decodeJobRequest(payload, kind === EXEC_KIND.STOP ? 'STOP' : 'ATTACH');
  const { id, from = 0, tail, killAfterMs, input = false } = request;
  const job = jobs.find(id);
  if (job === undefined) {
    stream.end(encodeFailure(new VproxyError('not-found', `no job "${escapeText(id, 64)}"`)));
  } else if (kind === EXEC_KIND.STOP) {
    job.execution?.terminate(killAfterMs ?? DEFAULT_KILL_AFTER_MS);
    sendOutput(stream, job, Number.POSITIVE_INFINITY, host);
  } else {
    const isWriter = input && job.result === null;
    const creditBytes = isWriter ? takeInput(job, request) : 0;
    if (creditBytes === null) return;
    const { byteCount, keptFrom } = job.kept;
    const first = Math.max(keptFrom, tail === undefined ? from : byteCount - tail);
    stream.write(encodeJson(EXEC_KIND.FROM, { from: first }));
    if (isWriter) stream.write(encodeCredit(creditBytes));
    sendOutput(stream, job, first, host);
  }
}

function sendList(stream: Duplex, { jobs, listBudget }: JobHost): void {
  const { mostListBytes } = jobs;
  // A list that has no room is not made.
  if (!listBudget.reserve(mostListBytes)) throw new VproxyError('too-many-streams', 'too many unread lists of jobs');
  let heldBytes = mostListBytes;
  const keep = (bytes: number): void => {
    listBudget.release(heldBytes - bytes);
    heldBytes = bytes;
  };
  const release = () => keep(0);
  stream.once('finish', release).once('close', release);
  const all = jobs.list();
  const running = all.flatMap(({ endedAt, pid }) => (endedAt === null ? pid : []));
  void usageOfSessions(new Set(running)).then((used) => {
    if (stream.destroyed) return;
    const list = encodeJson(EXEC_KIND.JOBS, {
      jobs: all.map((job) => ({ ...job, usage: job.usage ?? used.get(job.pid) ?? null })),
    });
    keep(list.length);
    stream.end(list);
  });
}

const encodeFailure = (error: VproxyError): Buffer => encodeExit(notRun(error));

/** Sends the output from this byte on, which may not be written yet, each record when the one before has left; then EXIT. */
function sendOutput(stream: Duplex, job: Job, from: number, { jobs, turns }: JobHost): void {
  const { kept } = job;
  let at = from;
  let isSending = false;
  let isWoken = false;
  const next = (): Buffer | null => {
    if (at < kept.keptFrom) {
      at = kept.keptFrom;
      return encodeJson(EXEC_KIND.FROM, { from: at });
    }
    const share = Math.floor(READERS_BYTES / jobs.readerCount);
    const bytes = kept.view(at, Math.max(CHUNK_BYTES.min, Math.min(share, CHUNK_BYTES.max)));
    at += bytes.length;
    return bytes.length === 0 ? null : encodeRecord(EXEC_KIND.STDOUT, bytes);
  };
  const send = (): void => {
    if (isSending || !stream.writable) return;
    const record = job.forgotten === null ? next() : null;
    isSending = record !== null;
    if (record !== null)
      stream.write(record, () => {
        isSending = false;
        wake();
      });
    else if (job.forgotten !== null) stream.end(encodeFailure(job.forgotten));
    else if (job.result !== null) stream.end(encodeExit(job.result));
  };
  // A job may have many readers, which share the turns of the event loop.
  const wake = (): void => {
    if (!isWoken)
      turns.later(() => {
        isWoken = false;
        send();
      });
    isWoken = true;
  };
  const unwatch = job.watch(wake);
  stream.once('close', unwatch).once('finish', unwatch);
  send();
}

/** The caller's end of the streams that start, list, read and end jobs. Loads nothing of the runner. */
import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../../../errors.js';
import type { ExecResult, JobStatus } from '../../../status/types.js';
import { encodeRecord, MAX_RECORD_BYTES } from '../../../util/bytes/records.js';
import { type Clock, systemClock } from '../../../util/clock.js';
import { escapeText } from '../../../util/escape.js';
import { readRecords } from '../../read-records.js';
import { decodeCredit, decodeExit, EXEC_KIND, type ExecRequest, encodeStart } from '../exec-messages.js';
import {
  decodeFrom,
  decodeJobs,
  decodeStartedJob,
  encodeJobRequest,
  type JobPiece,
  type JobPlace,
  type StartedJob,
} from './job-messages.js';
import type { JobWriter } from './job-writer.js';

type Open = () => Duplex | Promise<Duplex>;

/** Starts a job; resolves when it runs. Rejects with the reason why it does not, and `exec-unavailable` if that is not known. */
export async function startJob(open: Open, request: ExecRequest): Promise<StartedJob> {
  const start = encodeStart(request);
  const stream = await open();
  return ask(stream, start, EXEC_KIND.STARTED, decodeStartedJob).catch(
    sayUnknown(stream, 'it is unknown whether the job was started'),
  );
}

/** How long a runner may take to list its jobs. */
const LIST_MS = 10_000;

/** Rejects with `stalled` if the runner is silent for 10 s: the jobs of other channels are waiting to be shown. */
export async function listJobs(stream: Duplex, clock: Clock = systemClock): Promise<JobStatus[]> {
  const silent = new VproxyError('stalled', `the peer did not list its jobs within ${LIST_MS / 1000} s`);
  const cancel = clock.schedule(LIST_MS, () => stream.destroy(silent));
  return ask(stream, encodeRecord(EXEC_KIND.LIST, ''), EXEC_KIND.JOBS, decodeJobs).finally(cancel);
}

/**
 * Ends a job with TERM, then KILL after this time, by default 5 s; resolves when it has ended. Rejects with `not-found`, and
 * `exec-unavailable` if that is not known.
 */
export async function stopJob(open: Open, id: string, killAfterMs?: number): Promise<ExecResult> {
  const stop = encodeJobRequest(EXEC_KIND.STOP, { id, killAfterMs });
  const stream = await open();
  return ask(stream, stop, EXEC_KIND.EXIT, decodeEnd).catch(
    sayUnknown(stream, 'it is unknown whether the job has ended'),
  );
}

/** Adds what is unknown if the stream was lost; the runner's own error says everything. */
const sayUnknown =
  (stream: Duplex, unknown: string) =>
  (error: unknown): never => {
    if (stream.errored === null) throw error;
    throw new VproxyError('exec-unavailable', `${unknown}: ${toVproxyError(error).message}`, { cause: error });
  };

/**
 * Yields the output of a job from a place on, as it is written; the last piece is its end. After a failure, `retry` resolves
 * before the next attempt, which continues at the next byte, or rejects with the reason to give up. `writer` writes to the job
 * meanwhile. Rejects with `not-found`.
 */
export async function* readJob(
  open: Open,
  id: string,
  { from, tail }: JobPlace,
  retry: (error: VproxyError) => Promise<void> = (error) => Promise.reject(error),
  writer: JobWriter | null = null,
): AsyncGenerator<JobPiece, void> {
  /** The number of the next byte; null if only the runner knows it. */
  let at = tail === undefined ? (from ?? 0) : null;
  for (;;) {
    const place = at === null ? { from, tail } : { from: at };
    const request = encodeJobRequest(EXEC_KIND.ATTACH, { id, ...place, ...writer?.request });
    try {
      let result: ExecResult | null = null;
      for await (const { kind, payload } of converse(await open(), request, writer)) {
        // A recording ends with EXIT: nothing is said and shown after it.
        if (result !== null) continue;
        if (kind === EXEC_KIND.FROM) {
          const next = decodeFrom(payload);
          if (at !== null && next > at) yield { kind: 'gap', at, droppedBytes: next - at };
          at = next;
        } else if (kind === EXEC_KIND.STDOUT && at !== null) {
          yield { kind: 'output', at, bytes: payload };
          at += payload.length;
        } else if (kind === EXEC_KIND.CREDIT) {
          writer?.grant(decodeCredit(payload));
        } else if (kind === EXEC_KIND.EXIT) {
          result = decodeEnd(payload);
          writer?.begin(null);
        }
      }
      if (result === null && writer?.hasLeft === true) return;
      yield { kind: 'end', result: result ?? missing() };
      return;
    } catch (error) {
      const lost = toVproxyError(error);
      if (writer?.hasLeft !== true && writer?.isUnsure !== true) await retry(lost);
      // It may have been left meanwhile.
      if (writer?.isUnsure === true)
        throw new VproxyError(lost.code, `what was written last may be lost: ${lost.message}`, { cause: lost });
      if (writer?.hasLeft === true) return;
    }
  }
}

/** Sends a request; resolves with the answer of this kind. */
async function ask<T>(stream: Duplex, request: Buffer, kind: number, decodeAnswer: (payload: Buffer) => T): Promise<T> {
  let answer: T | null = null;
  for await (const record of converse(stream, request)) {
    if (record.kind === kind) answer = decodeAnswer(record.payload);
    else if (record.kind === EXEC_KIND.EXIT) decodeEnd(record.payload);
  }
  return answer ?? missing();
}

/** Sends a request, and yields the answers. Resets the stream if the reader stops before its end. */
async function* converse(
  stream: Duplex,
  request: Buffer,
  writer: JobWriter | null = null,
): ReturnType<typeof readRecords> {
  stream.on('error', () => undefined).write(request);
  writer?.begin(stream);
  try {
    yield* readRecords(stream, { what: 'exec', maxBytes: MAX_RECORD_BYTES });
    // Only after the runner has: simultaneous ends look like a reset.
    stream.end();
  } finally {
    writer?.begin(null);
    if (!stream.writableEnded) stream.destroy();
  }
}

/** Decodes an EXIT. Throws its error, if it has one. */
function decodeEnd(payload: Buffer): ExecResult {
  const result = decodeExit(payload);
  if (result.error === null) return result;
  throw new VproxyError(result.error.code, escapeText(result.error.message, 1000));
}

function missing(): never {
  throw new VproxyError('exec-unavailable', 'the peer ended the stream without a result');
}

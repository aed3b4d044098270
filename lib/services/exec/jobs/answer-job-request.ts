/** The runner's end of a stream that lists jobs, reads one, or ends one. */
import type { Duplex } from 'node:stream';
import { encodeRecord } from '../../../util/bytes/records.js';
import { escapeText } from '../../../util/escape.js';
import { EXEC_KIND, encodeExit } from '../exec-messages.js';
import type { Job } from './job.js';
import { decodeJobRequest, encodeJson } from './job-messages.js';
import type { JobTable } from './job-table.js';

/** What a reader holds besides the ring, in bytes. */
const CHUNK_BYTES = 65_536;

/** Answers LIST, ATTACH or STOP, and ends the stream. Throws `bad-argument`. */
export function answerJobRequest(stream: Duplex, jobs: JobTable, kind: number, payload: Buffer): void {
  if (kind === EXEC_KIND.LIST) {
    stream.end(encodeJson(EXEC_KIND.JOBS, { jobs: jobs.list() }));
    return;
  }
  const { id, from = 0, tail } = decodeJobRequest(payload, kind === EXEC_KIND.STOP ? 'STOP' : 'ATTACH');
  const job = jobs.find(id);
  if (job === undefined) {
    const error = { code: 'not-found', message: `no job "${escapeText(id, 64)}"` };
    stream.end(encodeExit({ status: null, signal: null, timedOut: false, durationMs: 0, error }));
  } else if (kind === EXEC_KIND.STOP) {
    job.execution?.terminate();
    sendOutput(stream, job, Number.POSITIVE_INFINITY);
  } else {
    const { byteCount, keptFrom } = job.kept;
    const first = Math.max(keptFrom, tail === undefined ? from : byteCount - tail);
    // The caller's end detaches it.
    stream.once('end', () => stream.end()).write(encodeJson(EXEC_KIND.FROM, { from: first }));
    sendOutput(stream, job, first);
  }
}

/** Sends the output from this byte on, which may not be written yet, each record when the one before has left; then EXIT. */
function sendOutput(stream: Duplex, job: Job, from: number): void {
  const { kept } = job;
  let at = from;
  let isSending = false;
  const next = (): Buffer | null => {
    if (at < kept.keptFrom) {
      at = kept.keptFrom;
      return encodeJson(EXEC_KIND.FROM, { from: at });
    }
    const bytes = kept.view(at, CHUNK_BYTES);
    at += bytes.length;
    return bytes.length === 0 ? null : encodeRecord(EXEC_KIND.STDOUT, bytes);
  };
  const send = (): void => {
    if (isSending || !stream.writable) return;
    const record = next();
    isSending = record !== null;
    if (record !== null)
      stream.write(record, () => {
        isSending = false;
        send();
      });
    else if (job.result !== null) stream.end(encodeExit(job.result));
  };
  const unwatch = job.watch(send);
  stream.once('close', unwatch).once('finish', unwatch);
  send();
}

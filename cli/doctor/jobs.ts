/** Runs checks concurrently, each for a bounded time, and returns their findings in the planned order. */
import { setTimeout as delay } from 'node:timers/promises';
import { describeError, escapeText } from '../../lib/util/escape.js';
import type { Diagnosis } from './diagnosis.js';
import { type Finding, finding } from './findings.js';

export interface Job {
  readonly check: string;
  /** What it is about, such as `channel vm1`. */
  readonly subject: string;
  /** An error that it throws becomes a finding. */
  readonly run: () => Promise<readonly Finding[]> | readonly Finding[];
}

export const job = (check: string, subject: string, run: Job['run']): Job => ({ check, subject, run });

/** The finding for a subject that no check can examine. */
export const notChecked = (message: string): Finding[] => [finding('not-checked', message)];

/** Runs all of them. Never rejects, and takes little longer than `timeoutMs`. */
export async function runJobs(jobs: readonly Job[], timeoutMs: number): Promise<Diagnosis[]> {
  const found = await Promise.all(jobs.map((job) => runJob(job, timeoutMs)));
  return jobs.flatMap(({ check, subject }, index) => (found[index] ?? []).map((one) => ({ check, subject, ...one })));
}

async function runJob({ run }: Job, timeoutMs: number): Promise<readonly Finding[]> {
  const done = new AbortController();
  const late = delay(timeoutMs, [finding('check-slow', `timed out after ${timeoutMs} ms`)], { signal: done.signal });
  late.catch(() => undefined);
  try {
    return await Promise.race([Promise.resolve().then(run), late]);
  } catch (error) {
    return [finding('check-failed', escapeText(describeError(error)))];
  } finally {
    done.abort();
  }
}

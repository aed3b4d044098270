/** Runs checks side by side, each for a bounded time, and puts what they found in the order in which they were planned. */
import { setTimeout as delay } from 'node:timers/promises';
import { describeError, escapeText } from '../../lib/util/escape.js';
import { type Diagnosis, type Finding, type FindingRows, findingsOf, note, warn } from './finding.js';

export const JOB_FINDINGS = {
  'not-checked': note('There is nothing that could be looked at beforehand.', null),
  'check-slow': warn(
    'A check took too long and was given up.',
    'see what does not answer: a network file system, a name server; or give it more time: --timeout',
  ),
  'check-failed': warn('A check failed by itself.', 'report it, with the message'),
} as const satisfies FindingRows;

const finding = findingsOf(JOB_FINDINGS);

/** One check of one subject. */
export interface Job {
  /** The name of the check. */
  readonly check: string;
  /** Such as `channel vm1`. */
  readonly subject: string;
  /** What it throws becomes a finding. */
  readonly run: () => Promise<readonly Finding[]> | readonly Finding[];
}

/** For a subject at which no check can look. */
export const notChecked = (message: string): Finding[] => [finding('not-checked', message)];

/** What all of them found. Never rejects, and takes little longer than `timeoutMs`. */
export async function runJobs(jobs: readonly Job[], timeoutMs: number): Promise<Diagnosis[]> {
  const found = await Promise.all(jobs.map((job) => runJob(job, timeoutMs)));
  return jobs.flatMap(({ check, subject }, index) => (found[index] ?? []).map((one) => ({ check, subject, ...one })));
}

async function runJob({ run }: Job, timeoutMs: number): Promise<readonly Finding[]> {
  const done = new AbortController();
  const late = delay(timeoutMs, [finding('check-slow', `not done within ${timeoutMs} ms`)], { signal: done.signal });
  late.catch(() => undefined);
  try {
    return await Promise.race([Promise.resolve().then(run), late]);
  } catch (error) {
    return [finding('check-failed', escapeText(describeError(error)))];
  } finally {
    done.abort();
  }
}

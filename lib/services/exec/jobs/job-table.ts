/** The jobs of a channel: those that run, and for an hour those that have ended, unless new ones need their room. */
import { randomBytes } from 'node:crypto';
import { VproxyError } from '../../../errors.js';
import type { CancelTimer, Clock } from '../../../util/clock.js';
import { DEFAULT_KEEP_BYTES, type Detachment, type ExecResult, MAX_JOBS, MAX_KEPT_BYTES } from '../exec-messages.js';
import { Job } from './job.js';
import type { JobStatus } from './job-messages.js';

/** How long an ended job is kept. */
const KEPT_MS = 3_600_000;

export class JobTable {
  readonly #clock: Clock;
  /** Those that start or run. */
  readonly #running = new Set<Job>();
  /** Those that have ended, the first to end first, and what forgets them. */
  readonly #ended = new Map<Job, CancelTimer>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Adds a job that is to start. Throws `too-many-streams` if those that run leave no room for it. */
  add({ tag = null, keepBytes = DEFAULT_KEEP_BYTES }: Detachment): Job {
    const fits = (jobs: readonly Job[]): boolean =>
      jobs.length < MAX_JOBS && keptBy(jobs) + keepBytes <= MAX_KEPT_BYTES;
    const { running } = this;
    if (!fits(running)) {
      const used = `${running.length} jobs run and keep ${keptBy(running)}`;
      const limits = `max ${MAX_JOBS} jobs, ${MAX_KEPT_BYTES} bytes`;
      throw new VproxyError('too-many-streams', `no room to keep ${keepBytes} bytes of output: ${used} (${limits})`);
    }
    for (const oldest of this.#ended.keys()) if (!fits(this.#all)) this.forget(oldest);
    let id: string;
    do id = randomBytes(4).toString('hex');
    while (this.find(id) !== undefined);
    const job = new Job(id, tag, keepBytes);
    this.#running.add(job);
    return job;
  }

  get #all(): Job[] {
    return [...this.#ended.keys(), ...this.#running];
  }

  /** Those that start or run, the oldest first. */
  get running(): Job[] {
    return [...this.#running];
  }

  find(id: string): Job | undefined {
    return this.#all.find((job) => job.id === id);
  }

  /** The ended ones, then the running ones, each the oldest first. */
  list(): JobStatus[] {
    return this.#all.flatMap(({ status }) => status ?? []);
  }

  end(job: Job, result: ExecResult): void {
    job.end(result);
    this.#running.delete(job);
    const cancel = this.#clock.schedule(KEPT_MS, () => this.forget(job));
    this.#ended.set(job, cancel);
  }

  /** Forgets a job that has ended, or did not start. */
  forget(job: Job): void {
    this.#running.delete(job);
    this.#ended.get(job)?.();
    this.#ended.delete(job);
  }

  /** Forgets the jobs that have ended. */
  clear(): void {
    for (const job of this.#ended.keys()) this.forget(job);
  }
}

const keptBy = (jobs: readonly Job[]): number => jobs.reduce((sum, { keepBytes }) => sum + keepBytes, 0);

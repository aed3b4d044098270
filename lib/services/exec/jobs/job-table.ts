/** The jobs of a channel: those that run, and for an hour those that have ended, unless new ones need their room. */
import { randomBytes } from 'node:crypto';
import { VproxyError } from '../../../errors.js';
import type { ExecResult, JobStatus } from '../../../status/types.js';
import type { CancelTimer, Clock } from '../../../util/clock.js';
import { escapeText } from '../../../util/escape.js';
import { DEFAULT_KEEP_BYTES, type Detachment, MAX_JOBS, MAX_KEPT_BYTES } from '../exec-messages.js';
import { Job } from './job.js';

/** How long an ended job is kept. */
const ENDED_MS = 3_600_000;

/** The most of a job in the list, as JSON: of its words and user 2,048 bytes, of its tag 384. */
const MAX_STATUS_BYTES = 3072;

export class JobTable {
  readonly #clock: Clock;
  /** Those that start or run. */
  readonly #running = new Set<Job>();
  /** Those that have ended, the first to end first, each with its timer. */
  readonly #ended = new Map<Job, CancelTimer>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Adds a job that is to start. Throws `job-exists` if it must be unique and is not, and `too-many-streams` if those that run
   * leave no room for it; ended ones make room when it begins.
   */
  add({ tag = null, keepBytes = DEFAULT_KEEP_BYTES, unique = false }: Detachment): Job {
    const { running } = this;
    const twin = unique && tag !== null ? running.find((job) => job.tag === tag) : undefined;
    if (twin !== undefined)
      throw new VproxyError('job-exists', `job ${twin.id} has the tag "${escapeText(tag ?? '')}"`);
    if (running.length >= MAX_JOBS || keptBy(running) + keepBytes > MAX_KEPT_BYTES) {
      const used = `${running.length} jobs run and keep ${keptBy(running)}`;
      const limits = `max ${MAX_JOBS} jobs, ${MAX_KEPT_BYTES} bytes`;
      throw new VproxyError('too-many-streams', `no room to keep ${keepBytes} bytes of output: ${used} (${limits})`);
    }
    let id: string;
    do id = randomBytes(4).toString('hex');
    while (this.find(id) !== undefined);
    const job = new Job(id, tag, keepBytes);
    this.#running.add(job);
    return job;
  }

  /** Forgets ended jobs, the first to end first, until all have room. Call when a job begins. */
  makeRoom(): void {
    const isFull = (jobs: readonly Job[]) => jobs.length > MAX_JOBS || keptBy(jobs) > MAX_KEPT_BYTES;
    for (const oldest of this.#ended.keys()) if (isFull(this.#all)) this.forget(oldest, 'others needed its room');
  }

  get readerCount(): number {
    return this.#all.reduce((sum, { readerCount }) => sum + readerCount, 0);
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

  /** The ended ones, then the running ones, each the oldest first; the `usage` of running ones is null. */
  list(): JobStatus[] {
    return this.#all.flatMap(({ status }) => status ?? []);
  }

  /** The most bytes of the list as JSON. */
  get mostListBytes(): number {
    return MAX_STATUS_BYTES * (1 + this.#all.length);
  }

  end(job: Job, result: ExecResult): void {
    job.end(result);
    this.#running.delete(job);
    const cancel = this.#clock.schedule(ENDED_MS, () => this.forget(job, 'it ended an hour ago'));
    this.#ended.set(job, cancel);
  }

  /** Forgets a job that has ended, and tells its readers why. */
  forget(job: Job, why: string): void {
    this.#ended.get(job)?.();
    this.#ended.delete(job);
    job.forget(new VproxyError('not-found', `job "${job.id}" is no longer kept: ${why}`));
  }

  /** Forgets a job that did not start. */
  remove(job: Job): void {
    this.#running.delete(job);
    this.forget(job, 'it did not start');
  }

  /** Forgets the jobs that have ended; their readers still get the rest. */
  clear(): void {
    for (const cancel of this.#ended.values()) cancel();
    this.#ended.clear();
  }
}

const keptBy = (jobs: readonly Job[]): number => jobs.reduce((sum, { keepBytes }) => sum + keepBytes, 0);

/**
 * The rounds of a run. In each, the contenders do every piece of work in turn, so that a machine that becomes slower does so for
 * all; the first contender changes from round to round.
 */
import type { Contender, ContenderSetting, RunningContender } from './contenders/contender.js';
import { startReady } from './contenders/start-ready.js';
import { warmUp } from './contenders/warm-up.js';
import { LoadClient } from './load/load-client.js';
import { descriptorLimit, type RunningProgram } from './process/programs.js';
import type { Results } from './results.js';
import { type Amounts, NOT_TRIED, stopSides, type Work } from './work/work.js';

/** A contender that failed this often in a row is no longer tried. */
const MOST_FAILURES = 2;

const TIME_IS_OVER = `${NOT_TRIED}: out of time (--quick)`;

/** What to measure. */
export interface RoundsOptions {
  readonly rounds: number;
  readonly contenders: readonly Contender[];
  readonly works: readonly Work[];
  readonly amounts: Amounts;
  /** Does slow work in the first round only. */
  readonly quick: boolean;
  /** Whether no more work may start. */
  readonly isOver: () => boolean;
  readonly setting: ContenderSetting;
  readonly target: RunningProgram;
  /** Reports the progress to the user. */
  readonly progress: (line: string) => void;
}

/** Runs all rounds, and records the outcomes in `results`. A failing contender never ends the run. */
export async function runRounds(options: RoundsOptions, results: Results): Promise<void> {
  const { rounds, contenders, works, progress } = options;
  const session = new BenchSession(options, results, await descriptorLimit());
  try {
    for (const contender of contenders) {
      if (options.isOver()) break;
      progress(`starting ${contender.id}`);
      await session.prepare(contender);
    }
    for (let round = 0; round < rounds; round += 1) {
      const order = contenders.map((_, index) => contenders[(index + round) % contenders.length]);
      for (const work of works) {
        if (options.quick && work.isSlow && round > 0) continue;
        progress(`round ${round + 1} of ${rounds}: ${work.id}`);
        for (const contender of order) if (contender !== undefined) await session.measure(work, contender);
      }
    }
  } finally {
    session.stop();
  }
}

class BenchSession {
  readonly #options: RoundsOptions;
  readonly #results: Results;
  readonly #descriptorLimit: number;
  readonly #load: LoadClient;
  readonly #secondLoad: LoadClient;
  readonly #running = new Map<string, RunningContender>();
  readonly #failures = new Map<string, number>();
  /** Pieces of work with their contenders. */
  readonly #tried = new Set<string>();

  constructor(options: RoundsOptions, results: Results, limit: number) {
    this.#options = options;
    this.#results = results;
    this.#descriptorLimit = limit;
    this.#load = new LoadClient(options.amounts.timeoutMs);
    this.#secondLoad = new LoadClient(options.amounts.timeoutMs);
  }

  /** Resolves with the contender, started and warm. The first piece of work reports a failure. */
  async prepare(contender: Contender): Promise<void> {
    try {
      await this.#warm(contender);
    } catch (error) {
      this.#options.progress(`${contender.id}: ${messageOf(error)}`);
    }
  }

  async measure(work: Work, contender: Contender): Promise<void> {
    const id = `${work.id} ${contender.id}`;
    const failures = this.#failures.get(id) ?? 0;
    if (failures >= MOST_FAILURES) return;
    if (this.#options.isOver()) {
      // Work done in an earlier round keeps its figures unmarked.
      if (!this.#tried.has(id)) this.#noteAll(work, contender, TIME_IS_OVER);
      return;
    }
    this.#tried.add(id);
    try {
      const running = await this.#warm(contender);
      const outcomes = await work.measure({
        contender,
        running,
        load: this.#load,
        secondLoad: this.#secondLoad,
        target: this.#options.target,
        amounts: this.#options.amounts,
        descriptorLimit: this.#descriptorLimit,
        startFresh: () => startReady(contender, this.#options.setting),
      });
      this.#results.add(work.id, contender.id, outcomes);
      this.#failures.delete(id);
    } catch (error) {
      this.#failures.set(id, failures + 1);
      const message = messageOf(error);
      this.#options.progress(`${contender.id}, ${work.id}: ${message}`);
      this.#noteAll(work, contender, message);
      await this.#drop(contender);
    }
  }

  stop(): void {
    this.#load.stop();
    this.#secondLoad.stop();
  }

  /** Records the same for every row. */
  #noteAll(work: Work, { id }: Contender, message: string): void {
    const rows = work.rows(this.#options.amounts);
    this.#results.add(work.id, id, Object.fromEntries(rows.map(({ key }) => [key, message])));
  }

  async #warm(contender: Contender): Promise<RunningContender> {
    const known = this.#running.get(contender.id);
    if (known !== undefined) return known;
    const running = await startReady(contender, this.#options.setting);
    this.#running.set(contender.id, running);
    await warmUp(running.address, this.#load, this.#options.amounts);
    return running;
  }

  /** Discards a contender that failed, as it may be in any state: the next piece of work gets a new one. */
  async #drop(contender: Contender): Promise<void> {
    this.stop();
    const running = this.#running.get(contender.id);
    this.#running.delete(contender.id);
    if (running) await stopSides(running);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

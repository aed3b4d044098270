/** Random lives of sessions, one after another: each has a seed of its own, by which it can be repeated. */
import { Random } from '../../bench/soak/random.js';
import { runResumeScenario } from './resume-scenario.js';

/** That of the first life, or whatever else is random; each life has the next one. `SEED=n` repeats them. */
export const SEED = process.env['SEED'] === undefined ? Date.now() & 0x3fff_ffff : Number(process.env['SEED']);

/** What the lives that were run came to together. */
export class ResumeLives {
  readonly sums = {
    cuts: 0,
    damages: 0,
    handOvers: 0,
    resumed: 0,
    streams: 0,
    deliveredBytes: 0,
  };
  #nextSeed = SEED;

  /** Runs so many more. Throws at the first in which something is wrong, with its seed. */
  run(count: number): void {
    for (let life = 0; life < count; life += 1) this.#live();
  }

  #live(): void {
    const seed = this.#nextSeed;
    this.#nextSeed += 1;
    try {
      const figures = runResumeScenario(new Random(seed));
      for (const key of Object.keys(this.sums) as (keyof typeof this.sums)[]) this.sums[key] += figures[key];
    } catch (error) {
      throw new Error(`SEED=${seed}: ${String(error)}`, { cause: error });
    }
  }
}

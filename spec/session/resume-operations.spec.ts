/** Random lives of sessions on many links: nothing that their streams carry is lost, repeated or out of order, and all ends as it was to. */
import test from 'ava';
import { Random } from '../../bench/soak/random.js';
import { runResumeScenario } from './resume-scenario.js';

/** The number of runs: `LONG=1` for the search that takes minutes. */
const runs = process.env['LONG'] === undefined ? 2000 : 100_000;

/** That of the first run; each run has the next one. */
const seed = process.env['SEED'] === undefined ? Date.now() & 0x3fff_ffff : Number(process.env['SEED']);

test('whatever happens on whatever links, streams bring what was sent and end as they were ended', (t) => {
  const sums = { cuts: 0, resumed: 0, streams: 0, deliveredBytes: 0 };
  const started = performance.now();
  for (let run = 0; run < runs; run += 1) {
    try {
      const figures = runResumeScenario(new Random(seed + run));
      for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += figures[key];
    } catch (error) {
      throw new Error(`SEED=${seed + run}: ${String(error)}`, { cause: error });
    }
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  t.log(`${runs} runs in ${seconds} s (SEED=${seed}):`, sums);
  t.true(sums.resumed > runs);
});

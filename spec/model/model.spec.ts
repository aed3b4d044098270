/** Random scenarios of the model: the invariants hold whatever happens (docs/testing.md). */
import test from 'ava';
import fc from 'fast-check';
import { searchRuns } from '../helpers/searches.js';
import './pinned.js';
import { runScenario } from './run-scenario.js';
import { scenarios } from './scenario.js';

/** The number of scenarios: `LONG=1` for the search that takes minutes. */
const numRuns = process.env['LONG'] === undefined ? searchRuns(5000) : 200_000;

const seed = process.env['SEED'] === undefined ? Date.now() | 0 : Number(process.env['SEED']);

test('R-CHANNEL-1: whatever happens, streams bring what was sent, credits bind, and both sides come together again', (t) => {
  const sums = { frames: 0, endings: 0, streams: 0, deliveredBytes: 0 };
  const started = performance.now();
  fc.assert(
    fc.property(scenarios, (scenario) => {
      const figures = runScenario(scenario);
      for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += figures[key];
    }),
    { numRuns, seed, includeErrorInReport: true },
  );
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  t.log(`${numRuns} scenarios in ${seconds} s (seed ${seed}):`, sums);
  t.true(sums.streams > numRuns);
});

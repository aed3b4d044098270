/**
 * Any bytes, in any split, give the same values or one of our own codes. `LONG=1` makes the search eighty times as
 * long. The seed and the path that a failure shows reproduce it; keep its bytes, in base64, in the target's file of
 * spec/fuzz/corpus.
 */
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import fc from 'fast-check';
import { searchRuns } from '../helpers/searches.js';
import { readCorpus } from './corpus.js';
import { FUZZ_INPUTS } from './inputs/index.js';
import { mutated } from './inputs/pieces.js';
import { FUZZ_TARGETS, type FuzzTargetName } from './targets/index.js';

const RUNS = process.env['LONG'] === '1' ? 40_000 : searchRuns(2000);

// Report each result as it comes: the runner takes a file without results for a minute for one that hangs.
test.beforeEach(() => setImmediate());

for (const name of Object.keys(FUZZ_TARGETS) as FuzzTargetName[]) {
  const run = FUZZ_TARGETS[name];
  const kept = readCorpus(name);

  test.serial(`${name}: inputs found by earlier searches are read correctly`, async (t) => {
    for (const bytes of kept) await t.notThrowsAsync(async () => run(bytes), bytes.toString('base64'));
    await t.notThrowsAsync(async () => run(new Uint8Array()));
  });

  test.serial(`${name}: any bytes are read alike in every split, or refused with one of our codes`, async (t) => {
    const good = kept.length === 0 ? [] : [{ weight: 1, arbitrary: fc.constantFrom(...kept) }];
    const inputs = mutated(fc.oneof({ weight: 3, arbitrary: FUZZ_INPUTS[name] }, ...good));
    const any = fc.uint8Array({ maxLength: 200 });
    const bytes = fc.oneof({ weight: 9, arbitrary: inputs }, { weight: 1, arbitrary: any });
    await t.notThrowsAsync(
      fc.assert(
        fc.asyncProperty(bytes, async (input) => run(input)),
        { numRuns: RUNS, includeErrorInReport: true },
      ),
    );
  });
}

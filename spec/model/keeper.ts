/** Keepers of one channel in several processes: whatever happens, none stands still, and they do not fight without end. */
import test from 'ava';
import fc from 'fast-check';
import { searchRuns } from '../helpers/searches.js';
import { KEEPER_OPERATIONS, type KeeperLife, liveKeepers } from './keeper-world.js';

const numRuns = process.env['LONG'] === undefined ? searchRuns(1000) : 50_000;
const seed = process.env['SEED'] === undefined ? Date.now() | 0 : Number(process.env['SEED']);

const operation = fc.record({
  what: fc.constantFrom(...KEEPER_OPERATIONS),
  index: fc.nat(2),
  amount: fc.nat(599),
});

const lives: fc.Arbitrary<KeeperLife> = fc.record({
  kind: fc.constantFrom('listener' as const, 'qemu' as const, 'device' as const),
  hosts: fc.array(fc.boolean(), { minLength: 1, maxLength: 3 }),
  seed: fc.nat(),
  operations: fc.array(operation, { maxLength: 40 }),
});

test('whatever happens, somebody gets the channel, no keeper stands still or acts twice, and a fight becomes rare', (t) => {
  let takeovers = 0;
  fc.assert(
    fc.property(lives, (life) => {
      takeovers += liveKeepers(life);
    }),
    { numRuns, seed, includeErrorInReport: true },
  );
  t.log(`${numRuns} lives (seed ${seed}), ${takeovers} takeovers`);
  t.true(takeovers > 0);
});

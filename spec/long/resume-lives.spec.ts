/** Sessions in memory that continue over many links and processes: more random lives than in the suite, leaving nothing behind. */
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { peakBytes } from '../helpers/measures.js';
import { assertFlat } from '../leaks/growth.js';
import { ResumeLives, SEED } from '../session/resume-scenario.js';

const LIVES = Number(process.env['VPROXY_LIVES'] ?? 100_000);
/** A session that is still referenced takes some kilobytes. */
const LIMIT_BYTES = 64;
/** How many run in one turn of the event loop. */
const BATCH = 500;

test.serial(`${LIVES} random lives lose nothing, and leave nothing behind`, async (t) => {
  const lives = new ResumeLives();
  let run = 0;
  const runSome = async (count: number): Promise<void> => {
    for (let rest = count; rest > 0; rest -= BATCH) {
      lives.run(Math.min(rest, BATCH));
      await setImmediate();
    }
    run += count;
  };
  const started = performance.now();
  t.log(`SEED=${SEED}`);
  await assertFlat(t, { name: 'lives', operations: LIVES, run: runSome, limitBytes: LIMIT_BYTES });
  const seconds = Math.round((performance.now() - started) / 1000);
  t.log(`${run} lives in ${seconds} s, at most ${peakBytes(process.pid) >> 20} MiB resident:`, lives.sums);
  t.true(lives.sums.resumed > run);
});

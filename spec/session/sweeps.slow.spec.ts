/**
 * Sessions on many links and in many processes: random lives, at the ends of which streams that end in order are complete. The
 * tests are serial, so that each is reported when it ends: none yields to the event loop.
 */
import test from 'ava';
import { ResumeLives, runLife, SEED } from './resume-scenario.js';

const LIVES = 2000;
const CAPTURED_LIVES = 150;

test.serial('whatever happens on any links, streams deliver what was sent and end as they were ended', (t) => {
  const lives = new ResumeLives();
  lives.run(LIVES);
  t.log(`${LIVES} lives (SEED=${SEED}):`, lives.sums);
  t.true(lives.sums.resumed > LIVES);
});

test.serial('discarded captures change nothing: every byte is the same as without them', (t) => {
  for (let seed = SEED; seed < SEED + CAPTURED_LIVES; seed += 1) {
    t.deepEqual(runLife(seed, true), runLife(seed), `SEED=${seed}`);
  }
});

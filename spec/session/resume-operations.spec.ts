/** Random lives of sessions on many links: nothing that their streams carry is lost, repeated or out of order, and all ends as it was to. */
import test from 'ava';
import { Random } from '../../bench/soak/random.js';
import { ResumeLives, SEED } from './resume-lives.js';
import { runResumeScenario } from './resume-scenario.js';

/** `spec/long/resume-lives.spec.ts` has more of them. */
const LIVES = 2000;
const CAPTURED_LIVES = 150;

test('whatever happens on whatever links, streams bring what was sent and end as they were ended', (t) => {
  const lives = new ResumeLives();
  const started = performance.now();
  lives.run(LIVES);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  t.log(`${LIVES} lives in ${seconds} s (SEED=${SEED}):`, lives.sums);
  t.true(lives.sums.resumed > LIVES);
});

test('captures that are thrown away change nothing: every byte is as it is without them', (t) => {
  for (let seed = SEED; seed < SEED + CAPTURED_LIVES; seed += 1) {
    const captured = runResumeScenario(new Random(seed), true);
    t.deepEqual(captured, runResumeScenario(new Random(seed)), `SEED=${seed}`);
  }
});

/** An exchange of 64 streams in which another process takes over at any byte: nothing is lost, and all ends as it does without that. */
import test from 'ava';
import { DIRECTIONS, HAND_OVER_SETTINGS, happenAll } from './resume-exchange.js';
import { SEED } from './resume-lives.js';

/** `spec/long/resume-lives.spec.ts` does it behind every byte. */
const STRIDE = 353;

for (const [name, settings] of Object.entries(HAND_OVER_SETTINGS)) {
  for (const direction of DIRECTIONS) {
    for (const what of ['sender', 'receiver'] as const) {
      test(`${name}: another process takes over from the ${what} behind every ${STRIDE}rd byte ${direction}`, (t) => {
        const { count, faults } = happenAll({ what, direction }, STRIDE, SEED % STRIDE, settings);
        t.log(`${count} times (SEED=${SEED})`);
        t.deepEqual(faults, []);
        t.true(count > 30);
      });
    }
  }
}

/**
 * Sessions on many links and in many processes: an exchange of 64 streams that something happens to behind any byte, and random
 * lives. What ends in order is whole, and all ends as it does without that. `spec/long/resume-lives.spec.ts` takes every byte.
 */
import test from 'ava';
import { Random } from '../../bench/soak/random.js';
import { DIRECTIONS, Exchange, HAND_OVER_SETTINGS, happenAll, INCIDENTS } from './resume-exchange.js';
import { ResumeLives, SEED } from './resume-lives.js';
import { runResumeScenario } from './resume-scenario.js';

const KINDS = ['ACCEPT', 'ACK', 'CREDIT', 'DATA', 'FIN', 'OPEN', 'PING', 'PONG', 'REFUSE', 'RESET', 'STOP'];
const LIVES = 800;
const CAPTURED_LIVES = 50;

test('without an incident the exchange comes out as it is to, and has every kind of frame both ways', (t) => {
  const exchange = new Exchange();
  t.deepEqual(exchange.faults(), []);
  for (const direction of DIRECTIONS) t.deepEqual([...new Set(exchange.frames(direction))].sort(), KINDS);
});

for (const what of INCIDENTS) {
  const stride = what === 'cut' ? 97 : 499;
  const settingsOf = what === 'cut' ? { 'a link': {} } : HAND_OVER_SETTINGS;
  for (const [name, settings] of Object.entries(settingsOf)) {
    for (const direction of DIRECTIONS) {
      test(`${what} of ${name}, behind each ${stride}th byte ${direction} from one on that differs, loses nothing`, (t) => {
        const { count, faults } = happenAll({ what, direction }, stride, SEED % stride, settings);
        t.log(`${count} times (SEED=${SEED})`);
        t.deepEqual(faults, []);
        t.true(count > 20);
      });
    }
  }
}

test('whatever happens on whatever links, streams bring what was sent and end as they were ended', (t) => {
  const lives = new ResumeLives();
  lives.run(LIVES);
  t.log(`${LIVES} lives (SEED=${SEED}):`, lives.sums);
  t.true(lives.sums.resumed > LIVES);
});

test('captures that are thrown away change nothing: every byte is as it is without them', (t) => {
  for (let seed = SEED; seed < SEED + CAPTURED_LIVES; seed += 1) {
    const captured = runResumeScenario(new Random(seed), true);
    t.deepEqual(captured, runResumeScenario(new Random(seed)), `SEED=${seed}`);
  }
});

/**
 * Sessions on many links and in many processes: an exchange of 64 streams with an incident after any byte, and random
 * lives. Streams that end in order are complete, and all end as without incidents. `spec/long/resume-lives.spec.ts` tries all bytes.
 * The tests are serial, so that each is reported when it ends: none yields to the event loop.
 */
import test from 'ava';
import { DIRECTIONS, Exchange, HAND_OVER_SETTINGS, happenAll, INCIDENTS } from './resume-exchange.js';
import { ResumeLives, runLife, SEED } from './resume-scenario.js';

const KINDS = ['ACCEPT', 'ACK', 'CREDIT', 'DATA', 'FIN', 'OPEN', 'PING', 'PONG', 'REFUSE', 'RESET', 'STOP'];
const LIVES = 2000;
const CAPTURED_LIVES = 150;

test.serial('without an incident the exchange has the expected result, and every kind of frame both ways', (t) => {
  const exchange = new Exchange();
  t.deepEqual(exchange.faults(), []);
  for (const direction of DIRECTIONS) t.deepEqual([...new Set(exchange.frames(direction))].sort(), KINDS);
});

for (const what of INCIDENTS) {
  const stride = what === 'cut' ? 23 : 353;
  const settingsOf = what === 'cut' ? { 'a link': {} } : HAND_OVER_SETTINGS;
  for (const [name, settings] of Object.entries(settingsOf)) {
    for (const direction of DIRECTIONS) {
      test.serial(`${what} of ${name}, after every ${stride}rd byte ${direction} from any on, loses nothing`, (t) => {
        const { count, faults } = happenAll({ what, direction }, stride, SEED % stride, settings);
        t.log(`${count} times (SEED=${SEED})`);
        t.deepEqual(faults, []);
        t.true(count > (what === 'cut' ? 800 : 30));
      });
    }
  }
}

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

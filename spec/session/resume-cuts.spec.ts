/** An exchange of 64 streams whose link is lost at any byte: what ends in order is whole, and all ends as it does without that. */
import test from 'ava';
import { DIRECTIONS, Exchange, happenAll } from './resume-exchange.js';
import { SEED } from './resume-lives.js';

/** `spec/long/resume-lives.spec.ts` cuts behind every byte. */
const STRIDE = 23;

const KINDS = ['ACCEPT', 'ACK', 'CREDIT', 'DATA', 'FIN', 'OPEN', 'PING', 'PONG', 'REFUSE', 'RESET', 'STOP'];

test('without a cut the exchange comes out as it is to, and has every kind of frame both ways', (t) => {
  const exchange = new Exchange();
  t.deepEqual(exchange.faults(), []);
  for (const direction of DIRECTIONS) t.deepEqual([...new Set(exchange.frames(direction))].sort(), KINDS);
});

for (const direction of DIRECTIONS) {
  test(`a cut behind every ${STRIDE}rd byte ${direction}, from one on that differs, loses nothing`, (t) => {
    const { count, faults } = happenAll({ what: 'cut', direction }, STRIDE, SEED % STRIDE);
    t.log(`${count} cuts (SEED=${SEED})`);
    t.deepEqual(faults, []);
    t.true(count > 800);
  });
}

/**
 * A bound on bytes a second: what passes at once, what passes in the long run, and the order in which waiting users
 * have their turn.
 */

import test from 'ava';
import { Pacer } from '../../lib/session/pacing.js';
import { ManualClock } from '../helpers/time.js';

function emptied(bytesPerSecond: number) {
  const clock = new ManualClock();
  const limit = new Pacer(bytesPerSecond, clock);
  limit.take(limit.availableBytes);
  return { clock, limit };
}

test('a pause is worth a tenth of a second, and 16 KiB at least', (t) => {
  const clock = new ManualClock();
  for (const [bytesPerSecond, burstBytes] of [
    [1024, 16_384],
    [1_000_000, 100_000],
  ] as const) {
    const limit = new Pacer(bytesPerSecond, clock);
    t.is(limit.availableBytes, burstBytes);
    limit.take(burstBytes);
    t.is(limit.availableBytes, 0);
    clock.advance(3_600_000);
    t.is(limit.availableBytes, burstBytes);
  }
});

test('those who wait have turns one after the other, each worth a hundredth of a second', (t) => {
  const { clock, limit } = emptied(1_000_000);
  const turns: string[] = [];
  for (const name of ['a', 'b', 'c']) {
    const takeTurn = (): void => {
      turns.push(name);
      limit.take(limit.turnBytes);
      limit.whenAvailable(takeTurn);
    };
    limit.whenAvailable(takeTurn);
  }
  clock.advance(70);
  t.is(turns.join(''), 'abcabca');
  // Late timers lose nothing.
  clock.jump(50);
  t.is(turns.join(''), 'abcabcabcabc');
});

test('nothing is available to others while one waits, and what its turn leaves is the next one’s', (t) => {
  const { clock, limit } = emptied(51_200);
  const turns: number[] = [];
  limit.whenAvailable(() => {
    turns.push(limit.availableBytes);
    limit.take(1);
  });
  clock.advance(5);
  t.is(limit.availableBytes, 0);
  clock.advance(5);
  t.deepEqual(turns, [512]);
  t.is(limit.availableBytes, 511);
});

test('who is forgotten has no turn', (t) => {
  const { clock, limit } = emptied(1024);
  const turns: string[] = [];
  const [one, other] = [() => void turns.push('one'), () => void turns.push('other')];
  limit.whenAvailable(one);
  limit.whenAvailable(other);
  limit.forget(one);
  clock.advance(1000);
  t.deepEqual(turns, ['other']);
  t.is(clock.pending, 0);
});

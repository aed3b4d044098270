import test from 'ava';
import { LoopTurns } from '../../lib/util/loop-turns.js';
import { bestTurnMs } from '../helpers/turn-time.js';

/** Keeps the processor busy. */
function work(ms: number): void {
  for (const endMs = performance.now() + ms; performance.now() < endMs; );
}

test('work that asks stops when the turn is over, and goes on in later ones, each in its turn', async (t) => {
  const turns = new LoopTurns();
  const order: string[] = [];
  const run = async (name: string): Promise<void> => {
    for (let part = 0; part < 50; part += 1) {
      await turns.next();
      order.push(name);
      work(0.3);
    }
  };
  // 30 ms of work.
  const longestMs = await bestTurnMs(() => Promise.all([run('a'), run('b')]));
  t.is(order.length, 300);
  t.deepEqual([...new Set(order.slice(0, 6))], ['a', 'b']);
  t.true(longestMs < 15, `${longestMs} ms`);
});

test('the first of a turn is never held up, and what waits is called in order', async (t) => {
  const turns = new LoopTurns();
  t.false(turns.isOver);
  work(1);
  t.true(turns.isOver);
  const called: number[] = [];
  await new Promise<void>((resolve) => {
    for (const number of [1, 2, 3]) turns.later(() => called.push(number));
    turns.later(resolve);
    t.deepEqual(called, []);
  });
  t.deepEqual(called, [1, 2, 3]);
});

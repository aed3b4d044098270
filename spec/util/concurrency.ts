import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { LoopTurns } from '../../lib/util/concurrency.js';
import { bestTurnMs } from '../helpers/turn-time.js';

/** Keeps the processor busy. */
function work(ms: number): void {
  for (const endMs = performance.now() + ms; performance.now() < endMs; );
}

test.serial('work that asks stops when the turn is over, and continues in later ones, in order', async (t) => {
  const turns = new LoopTurns();
  const order: string[] = [];
  const run = async (name: string): Promise<void> => {
    for (let part = 0; part < 50; part += 1) {
      const turn = turns.nextTurn();
      if (turn !== null) await turn;
      order.push(name);
      work(0.3);
    }
  };
  // 30 ms of work.
  const longestMs = await bestTurnMs(15, () => {
    order.length = 0;
    return Promise.all([run('a'), run('b')]);
  });
  t.is(order.length, 100);
  t.deepEqual([...new Set(order.slice(0, 6))], ['a', 'b']);
  t.true(longestMs < 15, `${longestMs} ms`);
});

test.serial('of many that ask in the same turn, only those work in it that have time', async (t) => {
  const turns = new LoopTurns();
  const run = async (): Promise<void> => {
    await Promise.resolve();
    const turn = turns.nextTurn();
    if (turn !== null) await turn;
    work(0.3);
  };
  // 30 ms of work.
  const longestMs = await bestTurnMs(15, () => Promise.all(Array.from({ length: 100 }, run)));
  t.true(longestMs < 15, `${longestMs} ms`);
});

test.serial('the first work of a turn is never held up, and waiting work runs in order', async (t) => {
  const turns = new LoopTurns();
  t.is(turns.nextTurn(), null);
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

test.serial('indivisible work runs in order, until a turn is over', async (t) => {
  const turns = new LoopTurns();
  const doneInTurn = [0];
  const pieces = Array.from({ length: 40 }, (_, index) =>
    turns.run(() => {
      work(0.2);
      doneInTurn.push((doneInTurn.pop() ?? 0) + 1);
      return index;
    }),
  );
  t.true((doneInTurn[0] ?? 0) > 0, 'at once');
  const state = { isDone: false };
  const outcome = Promise.all(pieces).finally(() => (state.isDone = true));
  while (!state.isDone) {
    doneInTurn.push(0);
    await setImmediate();
  }
  t.deepEqual(await outcome, [...pieces.keys()]);
  t.true(Math.max(...doneInTurn) <= 6, doneInTurn.join(' '));
});

test.serial('failed work rejects, and the work after it is done', async (t) => {
  const turns = new LoopTurns();
  const failing = turns.run(() => {
    throw new Error('no');
  });
  await t.throwsAsync(failing, { message: 'no' });
  t.is(await turns.run(() => Promise.resolve('yes')), 'yes');
});

test.serial('each of several waiters for a later turn gets its own', async (t) => {
  const turns = new LoopTurns();
  t.false(turns.isOver);
  work(1);
  let resumed = 0;
  const waiting = Array.from({ length: 10 }, () => Promise.resolve(turns.nextTurn()).then(() => (resumed += 1)));
  while (resumed < 10) {
    const before = resumed;
    await setImmediate();
    t.true(resumed - before <= 1);
  }
  await Promise.all(waiting);
});

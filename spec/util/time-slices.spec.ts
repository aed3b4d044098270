import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { TimeSlices } from '../../lib/util/time-slices.js';

/** Takes a quarter of a millisecond, or more. */
function work(): void {
  for (const endMs = performance.now() + 0.25; performance.now() < endMs; );
}

test('work is done in order, a slice of time in a turn of the loop, and the first slice at once', async (t) => {
  const slices = new TimeSlices();
  const doneInTurn = [0];
  const state = { isDone: false };
  const pieces = Array.from({ length: 40 }, (_, index) =>
    slices.run(() => {
      work();
      doneInTurn.push((doneInTurn.pop() ?? 0) + 1);
      return index;
    }),
  );
  t.notDeepEqual(doneInTurn, [0]);
  const outcome = Promise.all(pieces).finally(() => {
    state.isDone = true;
  });
  while (!state.isDone) {
    doneInTurn.push(0);
    await setImmediate();
  }
  t.deepEqual(
    await outcome,
    Array.from({ length: 40 }, (_, index) => index),
  );
  // What is held up takes fewer.
  t.true(Math.max(...doneInTurn) <= 5, doneInTurn.join(' '));
});

test('work that fails rejects, and what is behind it is done', async (t) => {
  const slices = new TimeSlices();
  const failing = slices.run(() => {
    throw new Error('no');
  });
  const following = slices.run(() => Promise.resolve('yes'));
  await t.throwsAsync(failing, { message: 'no' });
  t.is(await following, 'yes');
});

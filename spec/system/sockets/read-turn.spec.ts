import { setImmediate as nextTurn } from 'node:timers/promises';
import test from 'ava';
import { ReadTurn } from '../../../lib/system/sockets/read-turn.js';

const READ = 131_072;
const TURN = 524_288;

test('four full reads of 128 KiB are a turn, and the next one begins by itself', async (t) => {
  let turns = 0;
  const turn = new ReadTurn(() => (turns += 1));
  for (const expected of [1, 2]) {
    for (let reads = 1; reads <= 3; reads += 1) t.false(turn.isOver(READ, true, false), `${reads}`);
    t.true(turn.isOver(READ, true, false));
    t.is(turns, expected - 1);
    await nextTurn();
    t.is(turns, expected);
  }
});

test('a read that was not full ends the reading by itself, so that the count begins again', async (t) => {
  let turns = 0;
  const turn = new ReadTurn(() => (turns += 1));
  t.false(turn.isOver(TURN - 1, true, false));
  t.false(turn.isOver(TURN, false, false));
  t.false(turn.isOver(TURN - 1, true, false));
  await nextTurn();
  t.is(turns, 0);
  t.true(turn.isOver(1, true, false));
});

test('one full read is a turn where somebody is waited for', async (t) => {
  let turns = 0;
  const turn = new ReadTurn(() => (turns += 1));
  t.false(turn.isOver(100, false, true));
  t.true(turn.isOver(100, true, true));
  await nextTurn();
  t.is(turns, 1);
});

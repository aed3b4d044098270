import test from 'ava';
import { Roster } from '../../../lib/util/members/roster.js';

test('a roster has the members that joined and have not left; a seat is given again', (t) => {
  const roster = new Roster<{ readonly name: string }>();
  const [a, b, c] = [{ name: 'a' }, { name: 'b' }, { name: 'c' }];
  const seatOfA = roster.add(a);
  roster.add(b);
  t.is(roster.size, 2);
  roster.remove(seatOfA);
  t.deepEqual(roster.list(), [b]);
  t.is(roster.add(c), seatOfA);
  t.deepEqual(roster.list(), [c, b]);
  t.is(roster.size, 2);
});

test('a list of members stays as it is while they leave', (t) => {
  const roster = new Roster<{ readonly seat: number }>();
  const seats = [0, 1, 2].map((seat) => roster.add({ seat }));
  for (const { seat } of roster.list()) roster.remove(seats[seat] as number);
  t.is(roster.size, 0);
});

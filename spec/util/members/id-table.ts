import test from 'ava';
import { IdTable } from '../../../lib/util/members/id-table.js';
import { Roster } from '../../../lib/util/members/roster.js';
import { Random } from '../../../tools/bench/soak/random.js';

/** Ids as in a session, and ids that share a slot. */
const RANGES = [
  ['few, coming and going', () => 40],
  ['odd and even, in order', (step: number) => 4 * (step + 1)],
  ['from the whole range', () => 0xffff_ffff],
] as const;

for (const [name, highest] of RANGES) {
  test(`a table has what a Map has: ids ${name}`, (t) => {
    const random = new Random(name.length);
    const table = new IdTable<{ readonly id: number }>();
    const model = new Map<number, { readonly id: number }>();
    for (let step = 0; step < 20_000; step += 1) {
      const known = [...model.keys()];
      const pick = known[Math.floor(random.fraction() * known.length)];
      // Grows, shrinks, and grows again.
      const isGrowing = Math.sin(step / 2000) > 0;
      if (pick !== undefined && random.fraction() < (isGrowing ? 0.3 : 0.7)) {
        table.delete(pick);
        model.delete(pick);
      } else {
        const id = 1 + Math.floor(random.fraction() * highest(step));
        const value = { id };
        table.set(id, value);
        model.set(id, value);
      }
      if (step % 500 === 0)
        t.deepEqual(
          table.list(),
          [...model.values()].sort((one, other) => one.id - other.id),
        );
      if (table.size !== model.size) t.is(table.size, model.size, `step ${step}`);
      if (pick !== undefined && table.get(pick) !== (model.get(pick) ?? null)) t.fail(`id ${pick}, step ${step}`);
    }
    table.delete(0xffff_fffe);
    t.is(table.size, model.size);
    for (const [id, value] of model) t.is(table.get(id), value);
  });
}

test('a table shrinks again after many values', (t) => {
  const table = new IdTable<object>();
  for (let id = 1; id <= 10_000; id += 1) table.set(id, {});
  for (let id = 1; id <= 10_000; id += 1) table.delete(id);
  t.is(table.size, 0);
  t.deepEqual(table.list(), []);
  t.is(table.get(1), null);
});

test('a roster holds the members that joined and have not left; seats are reused', (t) => {
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

test('a list of members does not change while they leave', (t) => {
  const roster = new Roster<{ readonly seat: number }>();
  const seats = [0, 1, 2].map((seat) => roster.add({ seat }));
  for (const { seat } of roster.list()) roster.remove(seats[seat] as number);
  t.is(roster.size, 0);
});

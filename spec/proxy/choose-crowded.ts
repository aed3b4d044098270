/** R-CHANNEL-2: which connection makes room. */
import test from 'ava';
import fc from 'fast-check';
import { chooseCrowded, type WaitingConnection } from '../../lib/proxy/listen-supervisor.js';

const connection = (name: string, origin: string | null, isAnswered = false) => ({ name, origin, isAnswered });

test('it is one of the machine that has most of them, with the newcomer', (t) => {
  const waiting = [connection('a', 'A'), connection('b', 'B'), connection('c', 'B')];
  for (const random of [0, 0.5, 0.99]) {
    t.not(chooseCrowded(waiting, 'B', () => random).name, 'a');
    t.not(chooseCrowded(waiting, 'C', () => random).name, 'a');
  }
  t.is(chooseCrowded([connection('a', 'A'), connection('b', 'B')], 'B', () => 0).name, 'b');
});

test('one that has said nothing goes before one that has answered, however much of it is chance', (t) => {
  const waiting = [connection('a', null, true), connection('b', null), connection('c', null, true)];
  for (const random of [0, 0.5, 0.99]) t.is(chooseCrowded(waiting, null, () => random).name, 'b');
});

test('a machine that has most of them does not keep its place by answering', (t) => {
  const waiting = [connection('right', 'A'), connection('x', 'B', true), connection('y', 'B', true)];
  for (const random of [0, 0.5, 0.99]) t.not(chooseCrowded(waiting, 'B', () => random).name, 'right');
});

test('it is always one of them, and each that may go can go', (t) => {
  const one: fc.Arbitrary<WaitingConnection> = fc.record({
    origin: fc.constantFrom(null, 'A', 'B'),
    isAnswered: fc.boolean(),
  });
  const property = fc.property(
    fc.array(one, { minLength: 1, maxLength: 20 }),
    fc.double({ min: 0, max: 0.999, noNaN: true }),
    (waiting, random) => waiting.includes(chooseCrowded(waiting, 'A', () => random)),
  );
  t.notThrows(() => fc.assert(property));
  const same = Array.from({ length: 4 }, (_, index) => connection(String(index), 'A'));
  t.is(new Set([0, 0.25, 0.5, 0.75].map((random) => chooseCrowded(same, 'A', () => random).name)).size, 4);
});

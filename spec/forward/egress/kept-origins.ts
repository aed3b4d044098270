import test from 'ava';
import { KeptOrigins, type OriginConnection } from '../../../lib/forward/egress/origin.js';

test('a conversation keeps four connections, all of a target 64; the least recently used is closed', (t) => {
  const closed: number[] = [];
  const destination = (port: number) => ({ family: 0, host: 'a.example', port }) as const;
  const connection = (port: number) =>
    ({
      destination: destination(port),
      isUsableBy: () => !closed.includes(port),
      destroy: () => closed.push(port),
    }) as unknown as OriginConnection;
  const together = new Set<OriginConnection>();
  const conversations = Array.from({ length: 16 }, () => new KeptOrigins(together));
  for (const [index, kept] of conversations.entries())
    for (let port = 6 * index; port < 6 * index + 6; port += 1) kept.keep(connection(port));
  const both = conversations.flatMap((_, index) => [6 * index, 6 * index + 1]);
  t.deepEqual(closed, both);
  t.is(together.size, 64);
  const [first, second] = conversations as [KeptOrigins, KeptOrigins];
  new KeptOrigins(together).keep(connection(100));
  t.deepEqual([together.size, closed.at(-1)], [64, 2]);
  t.is(first.take(destination(2), null), null);
  t.is(first.take(destination(5), null)?.destination.port, 5);
  t.is(together.size, 63);
  second.close();
  t.deepEqual(closed.slice(-4), [8, 9, 10, 11]);
  t.is(together.size, 59);
});

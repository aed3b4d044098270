import test from 'ava';
import { KeptOrigins, type OriginConnection } from '../../../lib/forward/egress/origin.js';

/** Connections that are kept, by their ports, and those of them that were closed. */
function world() {
  const closed: number[] = [];
  const connection = (port: number): OriginConnection =>
    ({
      destination: { family: 0, host: 'a.example', port },
      isUsableBy: () => !closed.includes(port),
      destroy: () => closed.push(port),
    }) as unknown as OriginConnection;
  return { closed, connection, together: new Set<OriginConnection>() };
}

const destination = (port: number) => ({ family: 0, host: 'a.example', port }) as const;

test('a conversation keeps four connections', (t) => {
  const { closed, connection, together } = world();
  const kept = new KeptOrigins(together);
  for (let port = 1; port <= 6; port += 1) kept.keep(connection(port));
  t.deepEqual(closed, [1, 2]);
  t.is(kept.take(destination(2), null), null);
  t.is(kept.take(destination(6), null)?.destination.port, 6);
  kept.close();
  t.deepEqual(closed, [1, 2, 3, 4, 5]);
  t.is(together.size, 0);
});

test('all conversations of a target keep 64, and the one used longest ago is closed', (t) => {
  const { closed, connection, together } = world();
  const conversations = Array.from({ length: 40 }, () => new KeptOrigins(together));
  for (const [index, kept] of conversations.entries()) {
    kept.keep(connection(2 * index + 1));
    kept.keep(connection(2 * index + 2));
  }
  t.is(together.size, 64);
  t.deepEqual(
    closed,
    Array.from({ length: 16 }, (_, index) => index + 1),
  );
  t.is(conversations[0]?.take(destination(1), null), null);
  t.is(conversations[39]?.take(destination(80), null)?.destination.port, 80);
  t.is(together.size, 63);
});

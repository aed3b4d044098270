import { once } from 'node:events';
import net from 'node:net';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { ReadTurns } from '../../lib/util/read-turns.js';
import { localServer } from '../helpers/proxies.js';

test('a turn ends when full reads have brought so many bytes, and goes on in the next turn of the event loop', async (t) => {
  let resumed = 0;
  const turns = new ReadTurns(250, () => (resumed += 1));
  t.deepEqual(
    [1, 2, 3].map(() => turns.goesOn(100, true)),
    [true, true, false],
  );
  t.is(resumed, 0);
  await setImmediate();
  t.is(resumed, 1);
  t.true(turns.goesOn(100, true));
  t.true(turns.goesOn(99, false), 'nothing more is there: the event loop goes on by itself');
  t.true(turns.goesOn(100, true));
  t.true(turns.goesOn(100, true));
  t.is(resumed, 1);
});

test('a socket that is read in turns brings all of its bytes', async (t) => {
  const size = 5_000_000;
  const server = await localServer(t, (socket) => socket.end(Buffer.alloc(size, 1)));
  let bytes = 0;
  let turnCount = 1;
  const buffer = Buffer.alloc(4096);
  const turns = new ReadTurns(16_384, () => {
    turnCount += 1;
    socket.resume();
  });
  const callback = (count: number): boolean => {
    bytes += count;
    return turns.goesOn(count, count === buffer.length);
  };
  const onread = { buffer, callback };
  const socket = net.connect({ host: '127.0.0.1', port: server.port, onread } as net.NetConnectOpts);
  t.teardown(() => socket.destroy());
  await once(socket, 'end');
  t.is(bytes, size);
  t.true(turnCount > 100, `${turnCount}`);
});

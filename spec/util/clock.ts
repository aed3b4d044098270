import { once } from 'node:events';
import net from 'node:net';
import test from 'ava';

import { systemClock } from '../../lib/util/clock.js';
import { localServer, localSocket } from '../helpers/proxies.js';

/** Blocks this process meanwhile. */
const standStill = (ms: number): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

test.serial('a process that stalled reads its input before its timers call back', async (t) => {
  const events: string[] = [];
  const server = await localServer(t, (socket) => void socket.on('data', () => events.push('data')));
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const socket = localSocket(t, { port: server.port });
  await Promise.all([accepted, once(socket, 'connect')]);
  const called = new Promise<void>((resolve) => {
    systemClock.schedule(50, () => {
      events.push('timer');
      resolve();
    });
  });
  socket.write('an answer');
  standStill(200);
  await called;
  t.deepEqual(events, ['data', 'timer']);
});

test.serial('a timer that is late can be cancelled until it calls back', async (t) => {
  let calls = 0;
  const cancel = systemClock.schedule(1, () => (calls += 1));
  // Both are due when the process continues: this one calls back in the same turn, after the first one.
  const cancelled = new Promise((resolve) => setTimeout(resolve, 2)).then(cancel);
  standStill(100);
  await cancelled;
  await new Promise((resolve) => setImmediate(resolve));
  t.is(calls, 0);
});

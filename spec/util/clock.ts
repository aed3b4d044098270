import { once } from 'node:events';
import net from 'node:net';
import test from 'ava';

import { MAX_TIMER_MS, systemClock } from '../../lib/util/clock.js';
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

test.serial('the longest delay does not overflow', async (t) => {
  const warnings: Error[] = [];
  const warn = (warning: Error): void => void warnings.push(warning);
  process.on('warning', warn);
  const cancels = Array.from({ length: 1000 }, () => systemClock.schedule(MAX_TIMER_MS, () => t.fail()));
  // One that overflows is due after 1 ms.
  await new Promise<void>((resolve) => systemClock.schedule(2, resolve));
  for (const cancel of cancels) cancel();
  process.off('warning', warn);
  t.deepEqual(warnings, []);
});

test.serial('timers with slack call back together, within half of it', async (t) => {
  const startedAtMs = systemClock.now();
  const turns = new Set<number>();
  let turn = 0;
  const count = (): void => void (turn += 1);
  const spans = Array.from({ length: 80 }, (_, index) => {
    const delayMs = 40 + index;
    const called = new Promise<number>((resolve) => {
      systemClock.schedule(
        delayMs,
        () => {
          turns.add(turn);
          setImmediate(count);
          resolve(systemClock.now() - startedAtMs - delayMs);
        },
        40,
      );
    });
    return called;
  });
  const early = await Promise.all(spans);
  // One for each 40 ms, of which Node may split one at the border of a millisecond.
  t.true(turns.size <= 6, `${turns.size} turns`);
  t.true(Math.min(...early) > -22, `${Math.min(...early)} ms`);
});

test.serial('a timer whose time has passed, also by its slack, calls back without a warning of Node', async (t) => {
  const warnings: string[] = [];
  const note = ({ message }: Error): void => void warnings.push(message);
  process.on('warning', note);
  const calls = Array.from({ length: 41 }, (_, index) => [index - 20, index % 2 === 0 ? 80 : 0] as const);
  await Promise.all(
    calls.map(([delayMs, slackMs]) => new Promise<void>((resolve) => systemClock.schedule(delayMs, resolve, slackMs))),
  );
  process.off('warning', note);
  t.deepEqual(warnings, []);
});

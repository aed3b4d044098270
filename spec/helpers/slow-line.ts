/** A line of a given speed between two unix sockets, with a UART's small buffer at each end. */
import { connect, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';

const BUFFER_BYTES = 4096;
const TURN_MS = 10;

/**
 * Joins two listening sockets, with `bytesPerSecond` each way; ends with the test, or with whoever has such a `teardown`. Its clock tells how long the line has
 * been at work, in milliseconds: it stands still while a busy machine keeps the test's process from working.
 */
export function joinBySlowLine(
  t: Pick<ExecutionContext, 'teardown'>,
  one: string,
  other: string,
  bytesPerSecond: number,
): { timeMs(): number } {
  const [a, b] = [open(t, one), open(t, other)];
  const carryOn = [carry(a, b), carry(b, a)];
  let lastMs = performance.now();
  let timeMs = 0;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    const passedMs = Math.min(nowMs - lastMs, 2 * TURN_MS);
    lastMs = nowMs;
    timeMs += passedMs;
    for (const turn of carryOn) turn(Math.round((passedMs * bytesPerSecond) / 1000));
  }, TURN_MS);
  t.teardown(() => clearInterval(timer));
  return { timeMs: () => timeMs };
}

/** Carries up to so many bytes. The rest waits with the sender, but for what the line's buffer holds. */
function carry(from: Socket, to: Socket): (budget: number) => void {
  let buffer = Buffer.alloc(0);
  from.on('data', (bytes: Buffer) => {
    buffer = Buffer.concat([buffer, bytes]);
    if (buffer.length >= BUFFER_BYTES) from.pause();
  });
  return (budget) => {
    to.write(buffer.subarray(0, budget));
    buffer = buffer.subarray(budget);
    if (buffer.length < BUFFER_BYTES) from.resume();
  };
}

function open(t: Pick<ExecutionContext, 'teardown'>, path: string): Socket {
  const socket = connect(path);
  socket.on('error', () => undefined);
  t.teardown(() => socket.destroy());
  return socket;
}

/**
 * A channel with latency, as a process of its own: `delay-relay.js LISTEN_PATH CONNECT_PATH ROUND_TRIP_MS MB_PER_SECOND`
 * (0: no limit) joins each connection of one unix socket to one of its own to another. Bytes come out half a round trip
 * after they went in, and all connections share the rate.
 */
import net from 'node:net';
import { LineSchedule, type LineTraits } from './delay-line.js';

const [listenPath = '', connectPath = '', roundTripMs = '0', rate = '0'] = process.argv.slice(2);
const traits: LineTraits = {
  delayMs: Number(roundTripMs) / 2,
  bytesPerMs: Number(rate) > 0 ? Number(rate) * 1000 : Infinity,
};
/** A sender is paused while this much waits for the line: the buffer of a device. */
const MOST_QUEUE_MS = 10;
/** The resolution of timers: bytes due within this time come out at once. */
const TIMER_MS = 1;
/** A sender is also paused while this many bytes are in flight. */
const MOST_ON_THE_WAY = 268_435_456;

function carry(schedule: LineSchedule, from: net.Socket, to: net.Socket): void {
  const queue: { readonly atMs: number; readonly chunk: Buffer | null }[] = [];
  let bytesOnTheWay = 0;
  let timer: NodeJS.Timeout | undefined;
  const deliver = (): void => {
    timer = undefined;
    const now = performance.now();
    for (let next = queue[0]; next !== undefined && next.atMs <= now + TIMER_MS; next = queue[0]) {
      queue.shift();
      if (next.chunk === null) to.end();
      else {
        bytesOnTheWay -= next.chunk.length;
        // Bytes for a slow reader wait here, and pause the sender in turn.
        if (!to.write(next.chunk)) {
          to.once('drain', deliver);
          return;
        }
      }
    }
    if (from.isPaused() && schedule.queueMs(now) < MOST_QUEUE_MS && bytesOnTheWay < MOST_ON_THE_WAY) from.resume();
    const next = queue[0];
    const waitMs = from.isPaused() ? TIMER_MS : (next?.atMs ?? 0) - now;
    if (next !== undefined || from.isPaused()) timer = setTimeout(deliver, waitMs);
  };
  const push = (chunk: Buffer | null): void => {
    const now = performance.now();
    queue.push({ atMs: schedule.arrivalOf(chunk?.length ?? 0, now), chunk });
    bytesOnTheWay += chunk?.length ?? 0;
    if (schedule.queueMs(now) >= MOST_QUEUE_MS || bytesOnTheWay >= MOST_ON_THE_WAY) from.pause();
    // A running timer or a pending write will deliver this, too.
    if (timer === undefined && !to.writableNeedDrain) deliver();
  };
  from.on('data', push);
  from.on('end', () => push(null));
  from.on('close', () => {
    clearTimeout(timer);
    to.destroy();
  });
  from.on('error', () => from.destroy());
}

// One line for all connections: a contender with a connection for each stream gets no advantage.
const [up, down] = [new LineSchedule(traits), new LineSchedule(traits)];

const server = net.createServer({ allowHalfOpen: true }, (near) => {
  const far = net.connect({ path: connectPath, allowHalfOpen: true });
  carry(up, near, far);
  carry(down, far, near);
});
server.listen({ path: listenPath, backlog: 1024 });

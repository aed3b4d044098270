/** The standstill of a process with many idle guests that hands over to its successor, and of an echo on one of them. */
import type net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Programs } from '../process/programs.js';
import type { Outcomes, Work } from '../work/work.js';
import { Fleet } from './fleet.js';

/** The echo is measured for this long before the hand-over and after it, in milliseconds. */
const BESIDE_MS = 2000;

/** The pause between two echoes, in milliseconds: one channel is busy, the machine is not. */
const PAUSE_MS = 1;

/** The work's name and its rows. */
export const HAND_OVER: Pick<Work, 'id' | 'rows'> = {
  id: 'hand-over',
  rows: () => [
    { key: 'standstill', title: 'hand-over to a successor, standstill', unit: 'ms' },
    { key: 'gap', title: '  the longest gap of an echo on one channel', unit: 'ms' },
  ],
};

/** The numbers of guests, each with a session. */
export const FLEETS: readonly { readonly id: string; readonly title: string; readonly guests: number }[] = [
  10, 200, 1000,
].map((guests) => ({ id: `guests-${guests}`, title: `${guests} guests`, guests }));

/** Starts that many guests, upgrades their host once, and stops everything. */
export async function measureHandOver(programs: Programs, folder: string, guests: number): Promise<Outcomes> {
  const fleet = await Fleet.start(guests, programs, folder);
  try {
    const [first, ...others] = await fleet.connect();
    for (const socket of others) socket.destroy();
    if (first === undefined) throw new Error('no channel');
    const gap = longestGap(first);
    await delay(BESIDE_MS);
    gap.reset();
    const standstill = await fleet.upgrade();
    await delay(BESIDE_MS);
    first.destroy();
    return { standstill, gap: gap.longestMs };
  } finally {
    await fleet.stop();
  }
}

/** Keeps echoing a byte on a connection; its longest time so far, in milliseconds. */
function longestGap(socket: net.Socket) {
  const gap = { longestMs: 0, reset: () => (gap.longestMs = 0) };
  let sentAt = 0;
  const send = (): void => {
    sentAt = performance.now();
    socket.write('x');
  };
  socket.on('data', () => {
    gap.longestMs = Math.max(gap.longestMs, performance.now() - sentAt);
    setTimeout(send, PAUSE_MS);
  });
  send();
  return gap;
}

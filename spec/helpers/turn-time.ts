/**
 * Measures work of this thread in its processor time, as of a machine that never slows down: other threads read files and
 * collect garbage, and a machine that is shared takes two or three times as long for the same work as a minute before.
 */
import { setImmediate } from 'node:timers/promises';
import koffi from 'koffi';

/** From time.h. */
const CLOCK_THREAD_CPUTIME_ID = 3;

const clockGetTime = koffi
  .load(null)
  .func('clock_gettime', 'int', [
    'int',
    koffi.out(koffi.pointer(koffi.struct({ seconds: 'long', nanoseconds: 'long' }))),
  ]) as (clock: number, time: { seconds: number; nanoseconds: number }) => number;

/** The processor time of this thread, in milliseconds. */
function processorMs(): number {
  const time = { seconds: 0, nanoseconds: 0 };
  clockGetTime(CLOCK_THREAD_CPUTIME_ID, time);
  return time.seconds * 1000 + time.nanoseconds / 1e6;
}

const REFERENCE_STEPS = 2 ** 20;

/** What the reference takes on the machine for which limits are given, one of the slowest that run these tests. */
const REFERENCE_MS = 1.3;

/** Keeps the reference from being optimized away. */
let last = 1;

function referenceMs(): number {
  const beganMs = processorMs();
  let value = last;
  for (let step = 0; step < REFERENCE_STEPS; step += 1) value = (Math.imul(value, 1_103_515_245) + 12_345) | 0;
  last = value;
  return processorMs() - beganMs;
}

/** Times in milliseconds of this machine for one of {@link REFERENCE_MS}; never less than 1. */
function slowness(): number {
  return Math.max(1, Math.min(referenceMs(), referenceMs(), referenceMs()) / REFERENCE_MS);
}

// Optimized code only.
for (let count = 0; count < 5; count += 1) referenceMs();

/** Rates a time by the speed of the machine around it: the slower one before or after. */
async function rated(work: () => number | Promise<number>): Promise<number> {
  const before = slowness();
  const timeMs = await work();
  return timeMs / Math.max(before, slowness());
}

/** The processor time of work that this thread does, in milliseconds; rated only if it is above `limitMs`. Rejects like `work`. */
export async function workMs(work: () => unknown, limitMs: number): Promise<number> {
  const beganMs = processorMs();
  await work();
  const timeMs = processorMs() - beganMs;
  return timeMs <= limitMs ? timeMs : timeMs / slowness();
}

/** The processor time of the longest turn of the loop while `work` runs, in milliseconds. Rejects like `work`. */
async function longestTurnMs(work: () => Promise<unknown>): Promise<number> {
  const state = { isDone: false };
  // It begins in a measured turn.
  const begun = setImmediate().then(work);
  const done = begun.finally(() => {
    state.isDone = true;
  });
  done.catch(() => undefined);
  let longestMs = 0;
  while (!state.isDone) {
    const beforeMs = processorMs();
    await setImmediate();
    longestMs = Math.max(longestMs, processorMs() - beforeMs);
  }
  await done;
  return longestMs;
}

/** The same, for the best of several rounds: compilation or garbage collection in one need not happen in another. */
export async function bestTurnMs(work: () => Promise<unknown>, rounds = 5): Promise<number> {
  let bestMs = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round += 1) bestMs = Math.min(bestMs, await rated(() => longestTurnMs(work)));
  return bestMs;
}

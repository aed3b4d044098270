/**
 * Measures work of this thread in its processor time: other threads read files and collect garbage. Turns are rated by the
 * speed of the machine, which is shared, and takes up to four times as long for the same work as an hour before.
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

// Optimized code only.
for (let count = 0; count < 5; count += 1) referenceMs();

/** The processor time of work that this thread does, in milliseconds. Rejects like `work`. */
export async function workMs(work: () => unknown): Promise<number> {
  const beganMs = processorMs();
  await work();
  return processorMs() - beganMs;
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

/**
 * The same, for the best of several rounds: compilation or garbage collection in one need not happen in another. It is rated by
 * the best speed of the machine around them, so that only a machine that is slow all the time gets more. A round that is below
 * `enoughMs`, whatever the machine's speed, is the last.
 */
export async function bestTurnMs(enoughMs: number, work: () => Promise<unknown>, rounds = 3): Promise<number> {
  let bestMs = Number.POSITIVE_INFINITY;
  let bestReferenceMs = referenceMs();
  for (let round = 0; round < rounds && bestMs >= enoughMs; round += 1) {
    bestMs = Math.min(bestMs, await longestTurnMs(work));
    bestReferenceMs = Math.min(bestReferenceMs, referenceMs());
  }
  return bestMs / Math.max(1, bestReferenceMs / REFERENCE_MS);
}

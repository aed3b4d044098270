/** Measures the turns of this thread's event loop, in its processor time: other threads read files and collect garbage. */
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

function processorMs(): number {
  const time = { seconds: 0, nanoseconds: 0 };
  clockGetTime(CLOCK_THREAD_CPUTIME_ID, time);
  return time.seconds * 1000 + time.nanoseconds / 1e6;
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
export async function bestTurnMs(work: () => Promise<unknown>, rounds = 3): Promise<number> {
  let bestMs = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round += 1) bestMs = Math.min(bestMs, await longestTurnMs(work));
  return bestMs;
}

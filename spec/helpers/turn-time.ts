/** Measures the turns of this process's event loop, in processor time. */
import { setImmediate } from 'node:timers/promises';

function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
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

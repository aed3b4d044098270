/** The memory of the side that runs commands, whatever its callers have it keep: on a small scale. */
import test from 'ava';
import { EXEC_MEMORY_CASES } from './exec-cases.js';

for (const { what, hold, limitBytes, fewCalls } of EXEC_MEMORY_CASES) {
  // One after the other: it is the memory of the whole process.
  test.serial(`the runner keeps little of ${what}`, async (t) => {
    const [heldBytes, limit] = [await hold(fewCalls), limitBytes(fewCalls)];
    const figures = `${Math.round(heldBytes / 1024)} KiB for ${fewCalls} calls, ${Math.round(limit / 1024)} are allowed`;
    t.log(figures);
    t.true(heldBytes < limit, figures);
  });
}

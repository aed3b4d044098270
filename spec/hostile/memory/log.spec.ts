/** A part of what a peer can make the logs keep; all of it is logged by the long specs. */
import test from 'ava';
import { LOG_MEMORY_CASES } from './log-cases.js';

for (const { title, mostBytes, hold } of LOG_MEMORY_CASES) {
  // One after the other: it is the memory of the whole process.
  test.serial(`logs: ${title}`, async (t) => {
    const heldBytes = await hold(0.2);
    t.log(`${(heldBytes / 1_048_576).toFixed(1)} MiB`);
    t.true(heldBytes <= mostBytes, `${heldBytes} bytes are held, expected at most ${mostBytes}`);
  });
}

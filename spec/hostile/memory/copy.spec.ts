/** A tenth of what a peer can make a copy keep; all of it is sent by the long specs. */
import test from 'ava';
import { COPY_CASES } from './copy-cases.js';

for (const { title, mostBytes, hold } of COPY_CASES) {
  // By itself: it measures the memory of the whole process.
  test.serial(`copy: ${title}`, async (t) => {
    const heldBytes = await hold(0.1);
    t.true(heldBytes <= mostBytes, `${heldBytes} bytes are held, expected at most ${mostBytes}`);
    t.log(`${(heldBytes / 1_048_576).toFixed(1)} MiB`);
  });
}

import test from 'ava';
import { NODE_MAJOR, runWithFlags } from '../helpers/v8-flags.js';

test('where V8 has Maglev, its threads are kept from the heap by flags that V8 knows', async (t) => {
  const code = `
    part.keepThreadsFromHeap();
    console.log(JSON.stringify(flags));`;
  // Of deoptimization data first, and in one call: see there.
  const flags = ['--no-maglev-deopt-data-on-background --no-maglev-build-code-on-background'];
  t.deepEqual(await runWithFlags('cli/compiler-threads.js', code), NODE_MAJOR >= 22 ? flags : []);
});

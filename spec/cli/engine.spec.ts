/** V8 flags that vproxy sets for itself. */
import test from 'ava';
import { NODE_MAJOR, runWithFlags } from '../helpers/v8-flags.js';

test('at the second stream it sets a flag that V8 knows', async (t) => {
  const code = `
    const { EventEmitter } = await import('node:events');
    const proxy = new EventEmitter();
    part.optimizeWhenUsed(proxy);
    const seen = [];
    for (const [event, times] of [['listening', 20], ['stream-opened', 1], ['stream-opened', 1], ['stream-opened', 100]]) {
      for (let time = 0; time < times; time += 1) proxy.emit('log', { event });
      seen.push({ isCounting: proxy.listenerCount('log') > 0, flags: [...flags] });
    }
    console.log(JSON.stringify(seen));`;
  const flags = NODE_MAJOR === 20 ? ['--interrupt-budget=16384'] : [];
  const [before, after] = [
    { isCounting: true, flags: [] },
    { isCounting: false, flags },
  ];
  t.deepEqual(await runWithFlags('cli/engine.js', code), [before, before, after, after]);
});

test('if V8 has Maglev, flags that V8 knows keep its threads from the heap', async (t) => {
  const code = `
    part.keepThreadsFromHeap();
    console.log(JSON.stringify(flags));`;
  // Of deoptimization data first, and in one call: see there.
  const flags = ['--no-maglev-deopt-data-on-background --no-maglev-build-code-on-background'];
  t.deepEqual(await runWithFlags('cli/compiler-threads.js', code), NODE_MAJOR >= 22 ? flags : []);
});

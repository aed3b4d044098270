import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT } from '../helpers/files.js';

const MAJOR = Number.parseInt(process.versions.node, 10);
const ENGINE = path.join(PROJECT_ROOT, 'dist/cli/engine.js');

/** Runs code that may use `engine`, and `flags`, which it has set. What it prints is given back; V8 must not complain. */
async function output(t: ExecutionContext, code: string): Promise<unknown> {
  const script = `
    import { EventEmitter } from 'node:events';
    import { syncBuiltinESMExports } from 'node:module';
    import v8 from 'node:v8';
    const flags = [];
    const setFlag = v8.setFlagsFromString;
    v8.setFlagsFromString = (flag) => { flags.push(flag); setFlag(flag); };
    syncBuiltinESMExports();
    const engine = await import(${JSON.stringify(ENGINE)});
    ${code}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script]);
  const [printed, complaints] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  t.is(complaints, '');
  return JSON.parse(printed);
}

test('it counts streams until there was a second one, and then sets a flag that V8 knows', async (t) => {
  const code = `
    const proxy = new EventEmitter();
    engine.optimizeWhenUsed(proxy);
    const seen = [];
    for (const [event, times] of [['listening', 20], ['stream-opened', 1], ['stream-opened', 1], ['stream-opened', 100]]) {
      for (let time = 0; time < times; time += 1) proxy.emit('log', { event });
      seen.push({ isCounting: proxy.listenerCount('log') > 0, flags: [...flags] });
    }
    console.log(JSON.stringify(seen));`;
  const [before, after] = [
    { isCounting: true, flags: [] },
    { isCounting: false, flags: MAJOR === 20 ? ['--interrupt-budget=16384'] : [] },
  ];
  t.deepEqual(await output(t, code), [before, before, after, after]);
});

test('where V8 has Maglev, its threads are kept from the heap by flags that V8 knows', async (t) => {
  const set = await output(t, 'engine.keepThreadsFromHeap(); console.log(JSON.stringify(flags));');
  const flags = ['--no-maglev-build-code-on-background', '--no-maglev-deopt-data-on-background'];
  t.deepEqual(set, MAJOR >= 22 ? flags : []);
});

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import test from 'ava';
import { PROJECT_ROOT } from '../helpers/files.js';

test('where V8 has Maglev, its threads are kept from the heap by flags that V8 knows', async (t) => {
  const module = path.join(PROJECT_ROOT, 'dist/cli/compiler-threads.js');
  const code = `
    import v8 from 'node:v8';
    const flags = [];
    const setFlag = v8.setFlagsFromString;
    v8.setFlagsFromString = (flag) => { flags.push(flag); setFlag(flag); };
    const { keepThreadsFromHeap } = await import(${JSON.stringify(module)});
    keepThreadsFromHeap();
    console.log(JSON.stringify(flags));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', code]);
  const [output, complaints] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  t.is(complaints, '');
  const hasMaglev = Number.parseInt(process.versions.node, 10) >= 22;
  const flags = ['--no-maglev-build-code-on-background', '--no-maglev-deopt-data-on-background'];
  t.deepEqual(JSON.parse(output), hasMaglev ? flags : []);
});

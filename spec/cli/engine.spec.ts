import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import test from 'ava';
import { PROJECT_ROOT } from '../helpers/files.js';

test('it counts streams until there was a second one, and then sets a flag that V8 knows', async (t) => {
  const engine = path.join(PROJECT_ROOT, 'dist/cli/engine.js');
  const code = `
    import { EventEmitter } from 'node:events';
    import { optimizeWhenUsed } from ${JSON.stringify(engine)};
    const proxy = new EventEmitter();
    optimizeWhenUsed(proxy);
    const counts = [];
    for (const [event, times] of [['listening', 20], ['stream-opened', 1], ['stream-opened', 1], ['stream-opened', 100]]) {
      for (let time = 0; time < times; time += 1) proxy.emit('log', { event });
      counts.push(proxy.listenerCount('log'));
    }
    console.log(JSON.stringify(counts));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', code]);
  const [output, complaints] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  t.deepEqual({ output, complaints }, { output: '[1,1,0,0]\n', complaints: '' });
});

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
    import { syncBuiltinESMExports } from 'node:module';
    import v8 from 'node:v8';
    const flags = [];
    const setFlag = v8.setFlagsFromString;
    v8.setFlagsFromString = (flag) => { flags.push(flag); setFlag(flag); };
    syncBuiltinESMExports();
    const { optimizeWhenUsed } = await import(${JSON.stringify(engine)});
    const proxy = new EventEmitter();
    optimizeWhenUsed(proxy);
    const seen = [];
    for (const [event, times] of [['listening', 20], ['stream-opened', 1], ['stream-opened', 1], ['stream-opened', 100]]) {
      for (let time = 0; time < times; time += 1) proxy.emit('log', { event });
      seen.push({ isCounting: proxy.listenerCount('log') > 0, flags: [...flags] });
    }
    console.log(JSON.stringify(seen));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', code]);
  const [output, complaints] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  t.is(complaints, '');
  const flags = Number.parseInt(process.versions.node, 10) === 20 ? ['--interrupt-budget=16384'] : [];
  const [before, after] = [
    { isCounting: true, flags: [] },
    { isCounting: false, flags },
  ];
  t.deepEqual(JSON.parse(output), [before, before, after, after]);
});

/** V8 flags that vproxy sets for itself. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const NODE_MAJOR = Number.parseInt(process.versions.node, 10);

/**
 * Runs `code` in a new process, where `part` is the module `path` of dist, and `flags` are those given to V8 so far; `code`
 * prints JSON. Rejects if V8, or anything else, complains.
 */
async function runWithFlags(path: string, code: string): Promise<unknown> {
  const script = `
    import { syncBuiltinESMExports } from 'node:module';
    import v8 from 'node:v8';
    const flags = [];
    const setFlag = v8.setFlagsFromString;
    v8.setFlagsFromString = (flag) => { flags.push(flag); setFlag(flag); };
    syncBuiltinESMExports();
    const part = await import(${JSON.stringify(join(PROJECT_ROOT, 'dist', path))});
    ${code}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script]);
  const [output, complaints] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  if (complaints !== '') throw new Error(complaints);
  return JSON.parse(output);
}

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

test('a collection leaves the young generation its size, however much survives', async (t) => {
  const code = `
    part.keepHeapSmall();
    let kept = [];
    for (let count = 0; count < 1_000_000; count += 1) {
      kept.push({ count, list: [count] });
      if (kept.length > 40_000) kept = kept.slice(20_000);
    }
    // It may be larger while V8 marks the old one.
    v8.setFlagsFromString('--expose-gc');
    (await import('node:vm')).runInNewContext('gc')({ type: 'minor' });
    console.log(v8.getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space').space_size);`;
  t.true(((await runWithFlags('cli/engine.js', code)) as number) <= 2 * 1_048_576);
});

test('if V8 compiles in threads that touch the heap, flags that it knows keep them from that', async (t) => {
  const code = `
    part.keepThreadsFromHeap();
    console.log(JSON.stringify(flags));`;
  // Of deoptimization data first, and in one call: see there.
  const flags = ['--no-maglev-deopt-data-on-background --no-maglev-build-code-on-background --no-concurrent-sparkplug'];
  t.deepEqual(await runWithFlags('cli/compiler-threads.js', code), NODE_MAJOR >= 22 ? flags : []);
});

test('no signal opens a debugger, and one that was opened before is closed', async (t) => {
  const env = { NODE_OPTIONS: '--inspect=127.0.0.1:0' };
  const vproxy = spawnVproxy(t, ['-c', `unix-listen:${temporaryFolder(t)}/socket`], { env });
  const [, address = ''] = await vproxy.waitForLine(/^Debugger listening on ws:..([\d.:]+)/);
  await vproxy.waitForLine(/waiting for the peer/);
  await t.throwsAsync(fetch(`http://${address}/json/list`), { message: 'fetch failed' });
  vproxy.kill('SIGUSR1');
  t.is((await vproxy.stop()).signal, null);
  t.is(vproxy.lines.filter((line) => line.startsWith('Debugger listening')).length, 1);
});

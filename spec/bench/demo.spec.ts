/** The demonstration of `npm start`, run as it is. */
import { readdirSync } from 'node:fs';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const script = 'dist/bench/demo/index.js';

test.serial('it shows the reply of the emulator and a table, ends with 0, and leaves nothing behind', async (t) => {
  const folder = temporaryFolder(t);
  const demo = spawnVproxy(t, [], { script, env: { TMPDIR: folder } });
  t.deepEqual(await demo.exited, { code: 0, signal: null }, demo.stdout + demo.lines.join('\n'));
  t.regex(demo.stdout, /^guest\$ storcli64 \/c0 show\nCLI Version = [^]*\(exit status 0\)$/m);
  for (const what of ['a session', 'storcli64 /c0 show', '100 MB host to guest', '100 MB guest to host']) {
    t.regex(demo.stdout, new RegExp(`^${what}.*  ok  `, 'm'));
  }
  t.deepEqual(readdirSync(folder), []);
});

test.serial('interrupted, it says so, ends with 1, and leaves nothing behind', async (t) => {
  const folder = temporaryFolder(t);
  const demo = spawnVproxy(t, [], { script, env: { TMPDIR: folder } });
  await eventually(() => demo.stdout.includes('host$ vproxy'));
  demo.kill('SIGINT');
  t.deepEqual(await demo.exited, { code: 1, signal: null });
  t.regex(demo.stdout, /^The demonstration failed: SIGINT$/m);
  t.deepEqual(readdirSync(folder), []);
});

test.serial('--vm without QEMU says in one line what to install, and ends with 69', async (t) => {
  const folder = temporaryFolder(t);
  const demo = spawnVproxy(t, ['--vm'], { script, env: { PATH: folder } });
  t.deepEqual(await demo.exited, { code: 69, signal: null });
  t.is(demo.lines.length, 1);
  t.regex(demo.lines[0] ?? '', /apt-get install .*qemu-system-x86/);
});

/** The demonstration of `npm start`. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { openTerminal } from '../helpers/terminals.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const script = 'dist/tools/bench/demo/index.js';

const ROWS = [
  'a session between the two sides',
  'storcli64 /c0 show in the guest',
  'a command in the guest',
  '20 MB copied to the guest',
  'vproxy top beside the transfers',
  '200 MB host to guest, both at once',
  '200 MB guest to host, both at once',
  'a session after the guest is back',
  'storcli64 /c0 show once more',
];

test.serial('it shows what each step did, a table and what to do next, exits with 0, and leaves nothing', async (t) => {
  t.timeout(180_000);
  const folder = temporaryFolder(t);
  const demo = spawnVproxy(t, [], { script, env: { TMPDIR: folder } });
  t.deepEqual(await demo.exited, { code: 0, signal: null }, demo.stdout + demo.lines.join('\n'));
  t.regex(demo.stdout, /^guest\$ storcli64 \/c0 show\nCLI Version = [^]*\(exit status 0\)$/m);
  t.regex(demo.stdout, /^host\$ vproxy exec .*\nit works\noh\n\(exit status 7\)$/m);
  t.regex(demo.stdout, /^host\$ vproxy copy (\S+) :\S+\nhost\$ vproxy exec -n sha256sum (\S+)\n[0-9a-f]{64} {2}\2$/m);
  t.regex(demo.stdout, /^host\$ vproxy top .*\n(?:\S+Z channels 1\/1 {2}streams \d.*\n){4}/m);
  const rows = [...demo.stdout.matchAll(/^(.+?) {2,}ok {2}/gm)].map(([, what]) => what);
  t.deepEqual(rows, ROWS);
  t.regex(demo.stdout, /\nNext:\n\n {2}npm start -- --vm /);
  for (const [path] of demo.stdout.slice(demo.stdout.indexOf('Next:')).matchAll(/\S+\.md/g)) {
    t.true(existsSync(join(PROJECT_ROOT, path)), path);
  }
  t.deepEqual(readdirSync(folder), []);
});

serialTestWith('tmux')('on a terminal it shows the picture of vproxy top beside the transfers', async (t) => {
  t.timeout(180_000);
  const folder = temporaryFolder(t);
  const command = `${process.execPath} ${join(PROJECT_ROOT, script)}; echo "status $?"; exec sleep 300`;
  const terminal = await openTerminal(t, command, { TMPDIR: folder });
  await terminal.shows(
    /^vproxy \(\d+\) {2}up [^]*^default +established [^]*^default\/\d+ +(?:up|down) [^]*^q quits/m,
    60_000,
  );
  await terminal.shows(/Next:[^]*^status 0$/m, 90_000);
  t.false((await terminal.modes()).isAlternate);
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

/** The load generator against its own far end, the rounds in which it is used, and what processes have used. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { percentile } from '../../bench/load/echo.js';
import { LoadClient } from '../../bench/load/load-client.js';
import { startTarget } from '../../bench/load/start-target.js';
import { parseProcStat } from '../../bench/process/proc-stat.js';
import { Programs } from '../../bench/process/programs.js';
import { cpuSecondsOf, listTree, memoryOf, residentBytesOf } from '../../bench/process/tree.js';
import { temporaryFolder } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';

async function startLoad(t: ExecutionContext): Promise<{ readonly address: number; readonly load: LoadClient }> {
  const programs = new Programs(temporaryFolder(t));
  const load = new LoadClient();
  t.teardown(() => programs.stop());
  t.teardown(() => load.stop());
  return { address: (await startTarget(programs)).port, load };
}

test('a percentile is the value below which that share lies', (t) => {
  const values = Array.from({ length: 100 }, (_, index) => index);
  t.deepEqual(
    [0.5, 0.99, 0.999].map((share) => percentile(values, share)),
    [50, 99, 99],
  );
  t.is(percentile([], 0.5), Number.NaN);
});

test('bytes and messages of any size go and come, on connections that stay until they are released', async (t) => {
  const { address, load } = await startLoad(t);
  for (const direction of ['up', 'down'] as const) {
    const { rate = 0 } = await load.run({ kind: 'rate', address, direction, streams: 3, bytes: 1_000_001 });
    t.true(rate > 0);
    t.deepEqual(await load.run({ kind: 'release' }), {});
  }
  t.true(load.cpuSeconds > 0);
  for (const bytes of [1, 16_384, 1_048_576]) {
    const figures = await load.run({ kind: 'echo', address, bytes, messages: 5 });
    t.is(figures['messages'], 5);
    t.true((figures['p50'] ?? 0) > 0 && (figures['p50'] ?? 0) <= (figures['p999'] ?? 0));
  }
  const { messages = 0 } = await load.run({ kind: 'echo', address, bytes: 1, messages: Infinity, forMs: 50 });
  t.true(messages > 0);
  t.true(((await load.run({ kind: 'connections', address, count: 50, parallel: 8 }))['perSecond'] ?? 0) > 0);
  await load.run({ kind: 'hold', address, count: 200 });
  await load.run({ kind: 'hold-unread', address });
  await load.run({ kind: 'start-bulk', address, direction: 'down', streams: 2 });
  t.is((await load.run({ kind: 'echo', address, bytes: 1, messages: 3 }))['messages'], 3);
  t.true(((await load.run({ kind: 'count-bulk' }))['bytes'] ?? 0) > 0);
  await load.run({ kind: 'release' });
  t.is((await load.run({ kind: 'count-bulk' }))['bytes'], 0);
});

test('what fails says why, and the next command works', async (t) => {
  const { address, load } = await startLoad(t);
  await t.throwsAsync(load.run({ kind: 'echo', address: '/no/such/socket', bytes: 1, messages: 1 }), {
    message: /ENOENT/,
  });
  await t.throwsAsync(load.run({ kind: 'echo', address, bytes: 1, messages: Infinity }, 200), {
    message: 'echo took longer than 200 ms',
  });
  t.is((await load.run({ kind: 'echo', address, bytes: 1, messages: 1 }))['messages'], 1);
});

const FIELDS_AFTER_NAME = 'S 17 42 42 0 -1 4194560 100 0 0 0 250 150 30 20 20 0 1 0 12345 1000 200';

test('times stand behind the name, whatever the name is', (t) => {
  const expected = { pid: 42, parentPid: 17, ownSeconds: 4, reapedSeconds: 0.5 };
  t.deepEqual(parseProcStat(`42 (node) ${FIELDS_AFTER_NAME}`), expected);
  t.deepEqual(parseProcStat(`42 (a) R 9 (b) ${FIELDS_AFTER_NAME}`), expected);
});

test('of this process its own line is understood', (t) => {
  const { pid, parentPid } = parseProcStat(readFileSync('/proc/self/stat', 'utf8'));
  t.deepEqual([pid, parentPid], [process.pid, process.ppid]);
});

test('a child of a child belongs to the tree, and what both have used counts, also when they have ended', async (t) => {
  const burn = 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done';
  const child = spawn('sh', ['-c', `sh -c '${burn}'; echo; sh -c 'sleep 60; :'; :`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const pid = child.pid ?? 0;
  t.teardown(() => listTree([pid]).forEach((stat) => process.kill(stat.pid, 'SIGKILL')));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  await eventually(() => listTree([pid]).length === 3);
  t.true(cpuSecondsOf([pid]) > 0.02);
  t.true(residentBytesOf([pid]) > 0);
  const { residentBytes, privateBytes } = memoryOf([pid]);
  t.true(privateBytes > 0 && residentBytes > privateBytes && residentBytes > residentBytesOf([pid]));
});

test('a process that is not there has used nothing', (t) => {
  t.deepEqual(listTree([2 ** 30]), []);
  t.is(cpuSecondsOf([2 ** 30]), 0);
  t.deepEqual(memoryOf([2 ** 30]), { residentBytes: 0, privateBytes: 0 });
});

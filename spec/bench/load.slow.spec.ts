/** The load generator against its own far end, the rounds that use it, and the resource usage of processes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { socket } from '../../tools/bench/contenders/socket.js';
import { percentile } from '../../tools/bench/load/echo.js';
import { LoadClient } from '../../tools/bench/load/load-client.js';
import { startTarget } from '../../tools/bench/load/start-target.js';
import { parseBenchOptions } from '../../tools/bench/options.js';
import { parseProcStat } from '../../tools/bench/process/proc-stat.js';
import { Programs } from '../../tools/bench/process/programs.js';
import { cpuSecondsOf, listTree, memoryOf, residentBytesOf } from '../../tools/bench/process/tree.js';
import { Results } from '../../tools/bench/results.js';
import { runRounds } from '../../tools/bench/rounds.js';
import type { Work } from '../../tools/bench/work/work.js';
import { temporaryFolder } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';

async function startLoad(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const programs = new Programs(folder);
  const load = new LoadClient();
  t.teardown(() => programs.stop());
  t.teardown(() => load.stop());
  return { programs, folder, load, target: await startTarget(programs) };
}

test('a percentile is the value below which that share of the figures lies', (t) => {
  const values = Array.from({ length: 100 }, (_, index) => index);
  const found = [0.5, 0.99, 0.999].map((share) => percentile(values, share));
  t.deepEqual([...found, percentile([], 0.5)], [50, 99, 99, Number.NaN]);
});

test('bytes and messages of any size are sent and received, on connections that stay open until released', async (t) => {
  const { target, load } = await startLoad(t);
  const address = target.port;
  for (const direction of ['up', 'down'] as const) {
    const { rate = 0 } = await load.run({ kind: 'rate', address, direction, streams: 3, bytes: 1_000_001 });
    t.true(rate > 0);
    t.deepEqual(await load.run({ kind: 'release' }), {});
  }
  t.true(load.cpuSeconds > 0);
  for (const bytes of [1, 16_384, 1_048_576]) {
    const { messages, p50 = 0, p999 = 0 } = await load.run({ kind: 'echo', address, bytes, messages: 5 });
    t.is(messages, 5);
    t.true(p50 > 0 && p50 <= p999);
  }
  const { messages = 0 } = await load.run({ kind: 'echo', address, bytes: 1, messages: Infinity, forMs: 50 });
  const { perSecond = 0 } = await load.run({ kind: 'connections', address, count: 50, parallel: 8 });
  t.true(messages > 0 && perSecond > 0);
  await load.run({ kind: 'hold', address, count: 200 });
  await load.run({ kind: 'hold-unread', address });
  await load.run({ kind: 'start-bulk', address, direction: 'down', streams: 2 });
  t.is((await load.run({ kind: 'echo', address, bytes: 1, messages: 3 }))['messages'], 3);
  t.true(((await load.run({ kind: 'count-bulk' }))['bytes'] ?? 0) > 0);
  await load.run({ kind: 'release' });
  t.is((await load.run({ kind: 'count-bulk' }))['bytes'], 0);
});

test('a failure has its reason, and the next command works', async (t) => {
  const { target, load } = await startLoad(t);
  const echo = { kind: 'echo', address: target.port, bytes: 1, messages: 1 } as const;
  await t.throwsAsync(load.run({ ...echo, address: '/no/such/socket' }), { message: /ENOENT/ });
  const message = 'echo took longer than 200 ms';
  await t.throwsAsync(load.run({ ...echo, messages: Infinity }, 200), { message });
  t.is((await load.run(echo))['messages'], 1);
});

test('when time is up no more work starts: figures stay, and missing ones have a reason', async (t) => {
  const { programs, folder, target } = await startLoad(t);
  const done: string[] = [];
  const work = (id: string, outcomes: Record<string, number>): Work => ({
    id,
    rows: () => [{ key: 'figure', title: id, unit: '' }],
    measure: () => (done.push(id), Promise.resolve(outcomes)),
  });
  const results = new Results();
  const { amounts } = parseBenchOptions(['--quick', '--megabytes', '1']);
  await runRounds(
    {
      ...{ rounds: 2, contenders: [socket], amounts, quick: true, target: target.program },
      works: [work('first', { figure: 7 }), work('none', {}), work('last', { figure: 8 })],
      setting: { programs, folder, target: target.port },
      isOver: () => done.length === 2,
      progress: () => undefined,
    },
    results,
  );
  t.deepEqual(done, ['first', 'none']);
  const [first, none, last] = [...done, 'last'].map((id) => results.cell(id, 'figure', 'socket'));
  t.like(first, { rounds: [7], failure: undefined });
  t.is(none, undefined);
  t.like(last, { rounds: [], failure: 'not tried: out of time (--quick)' });
});

test('times follow the name in the line of a process, whatever the name is', (t) => {
  const fields = 'S 17 42 42 0 -1 4194560 100 0 0 0 250 150 30 20 20 0 1 0 12345 1000 200';
  const expected = { pid: 42, parentPid: 17, ownSeconds: 4, reapedSeconds: 0.5 };
  for (const name of ['node', 'a) R 9 (b']) t.deepEqual(parseProcStat(`42 (${name}) ${fields}`), expected);
  t.like(parseProcStat(readFileSync('/proc/self/stat', 'utf8')), { pid: process.pid, parentPid: process.ppid });
});

test('a grandchild belongs to the tree, and the time of both counts, also after they have exited', async (t) => {
  const burn = 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done';
  const script = `sh -c '${burn}'; echo; sh -c 'sleep 60; :'; :`;
  const child = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] });
  const pid = child.pid ?? 0;
  t.teardown(() => listTree([pid]).forEach((stat) => process.kill(stat.pid, 'SIGKILL')));
  await once(child.stdout, 'data');
  await eventually(() => listTree([pid]).length === 3);
  t.true(cpuSecondsOf([pid]) > 0.02);
  t.true(residentBytesOf([pid]) > 0);
  const { residentBytes, privateBytes } = memoryOf([pid]);
  t.true(privateBytes > 0 && residentBytes > privateBytes && residentBytes > residentBytesOf([pid]));
  const gone = [2 ** 30];
  t.deepEqual([listTree(gone), cpuSecondsOf(gone), memoryOf(gone)], [[], 0, { residentBytes: 0, privateBytes: 0 }]);
});

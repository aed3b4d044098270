/** What ends a command early: signals, its timeout, its caller, the shutdown of this process. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import type { ExecRequest } from '../../lib/services/exec/exec-messages.js';
import { GroupEnder, type ProcessEnd, ProcessGroup } from '../../lib/system/processes/children.js';
import type { OpenPipes } from '../../lib/system/processes/pipes.js';
import { MAX_TIMER_MS } from '../../lib/util/clock.js';
import { deferred } from '../../lib/util/concurrency.js';
import { type ExecCaller, gatedPipes, statOf, TestRunner } from '../helpers/exec-peers.js';
import { temporaryFolder } from '../helpers/files.js';
import { advanceUntil, eventually, ManualClock } from '../helpers/time.js';
import { isRunning } from '../helpers/vproxy-process.js';

const reset = (): VproxyError => new VproxyError('peer-restarted', 'the caller has gone');

/** Ignores HUP and TERM, with a child and a grandchild; each prints its process id. */
const STUBBORN =
  'trap "" HUP TERM; sleep 1000 & echo $!; sh -c "sleep 1001 & echo \\$!; wait" & echo $!; echo $$; wait; wait; wait';

/** The same without ignoring signals. */
const WILLING = STUBBORN.replace('trap "" HUP TERM; ', '');

const HANDLING = 'trap "echo bye; exit 3" TERM; echo ready; while :; do sleep 0.01; done';

/** A call with a manual clock, whose caller has sent this. */
function begin(t: ExecutionContext, request: ExecRequest, options: { readonly openPipes?: OpenPipes } = {}) {
  const clock = new ManualClock();
  const runner = new TestRunner(t, { clock, ...options });
  const { caller, far } = runner.open();
  caller.start(request);
  return { clock, runner, caller, far };
}

async function pidsOf(caller: ExecCaller, count: number): Promise<number[]> {
  return eventually(
    () => {
      const pids = caller.stdout.trim().split('\n').map(Number);
      return pids.length === count && pids.every((pid) => pid > 1) ? pids : null;
    },
    { what: 'the process ids' },
  );
}

const ended = (runner: TestRunner) =>
  eventually(() => runner.events.find(({ event }) => event === 'exec-ended'), { what: 'the end in the log' });

async function stopped({ started }: ExecCaller): Promise<void> {
  const pid = await started;
  await eventually(() => statOf(pid)[0] === 'T', { what: 'the stop' });
}

/** The process that left the group of a call: its first line is its id; waits until it has its own session. */
async function escapedFrom(t: ExecutionContext, caller: ExecCaller): Promise<number> {
  const [pid = 0] = await pidsOf(caller, 1);
  t.teardown(() => process.kill(pid, 'SIGKILL'));
  await eventually(() => Number(statOf(pid)[3]) === pid, { what: 'setsid' });
  return pid;
}

test('R-EXEC-2: the time of a command that waits begins with START; once it is over, it is not run', async (t) => {
  const { asked, gate, openPipes } = gatedPipes();
  const clock = new ManualClock();
  const runner = new TestRunner(t, { clock, openPipes, maxCommands: 1 });
  const full = { code: 'too-many-streams', message: 'too many commands running until its time was over' };
  const first = runner.call({ argv: ['sleep', '1000'], wait: true, timeoutMs: 1000 });
  const second = runner.call({ argv: ['true'], wait: true, timeoutMs: 900 });
  await asked.promise;
  clock.advance(900);
  t.deepEqual((await second.exit).error, full);
  // As when this process is stopped: the place comes before the timer.
  clock.jump(100);
  gate.resolve();
  t.deepEqual((await first.exit).error, full);

  const third = runner.call({ argv: ['sleep', '1000'], wait: true, timeoutMs: 1000 });
  await third.started;
  clock.advance(1000);
  t.like(await advanceUntil(clock, third.exit), { timedOut: true, signal: 'SIGTERM' });
  t.is(runner.eventNames().filter((name) => name === 'exec-started').length, 1);
});

const allGone = (pids: readonly number[]): Promise<unknown> =>
  eventually(() => !pids.some(isRunning), { what: `the end of the processes ${pids.join(' ')}` });

test('a signal reaches the whole group, even if the input is not read', async (t) => {
  const caller = new TestRunner(t).call({ argv: ['sh', '-c', WILLING] });
  const pids = await pidsOf(caller, 4);
  caller.input(Buffer.alloc(262_144)).signal('SIGTERM');
  t.is((await caller.exit).signal, 'SIGTERM');
  await allGone(pids);
});

test('a signal and a size that arrive before the command starts are not lost', async (t) => {
  const caller = new TestRunner(t).call({ argv: ['sleep', '1000'] });
  caller.signal('SIGTERM');
  t.is((await caller.exit).signal, 'SIGTERM');
});

test('a command without a timeout, or with 0, has no timer, and an unused timer is removed', async (t) => {
  const clock = new ManualClock();
  const runner = new TestRunner(t, { clock });
  for (const timeoutMs of [undefined, 0, 1000]) {
    const caller = runner.call({ argv: ['cat'], ...(timeoutMs !== undefined && { timeoutMs }) });
    await caller.started;
    t.is(clock.pending, timeoutMs === 1000 ? 1 : 0);
    caller.endInput();
    t.false((await caller.exit).timedOut);
    t.is(clock.pending, 0);
  }
});

for (const [title, script, killAfterMs, expected] of [
  ['a command gets TERM', 'echo ready; exec sleep 1000', 0, { status: null, signal: 'SIGTERM' }],
  ['a stopped command ends', 'echo ready; kill -STOP $$', 0, { status: null, signal: 'SIGTERM' }],
  ['a command that handles TERM keeps its own status', HANDLING, 0, { status: 3, signal: null }],
  ['a command that ignores TERM is killed with its whole group', STUBBORN, 2000, { status: null, signal: 'SIGKILL' }],
] as const) {
  test(`on timeout ${title}`, async (t) => {
    const request = { argv: ['sh', '-c', script], timeoutMs: 3000, ...(killAfterMs > 0 && { killAfterMs }) };
    const { clock, runner, caller } = begin(t, request);
    const pids = script === STUBBORN ? await pidsOf(caller, 4) : [await caller.started];
    await eventually(() => caller.stdout !== '', { what: 'the first line' });
    if (script.includes('STOP')) await stopped(caller);
    clock.advance(2999);
    t.false(caller.said.includes('EXIT'));
    clock.advance(1);
    if (killAfterMs > 0) {
      clock.advance(killAfterMs - 1);
      t.true(pids.every(isRunning));
      clock.advance(1);
    }
    t.like(await caller.exit, { ...expected, timedOut: true, durationMs: 3000 + killAfterMs });
    await allGone(pids);
    t.deepEqual([runner.runner.runningCount, clock.pending], [0, 0]);
  });
}

test('a process outside the group that holds the output open does not delay the timeout', async (t) => {
  const argv = ['sh', '-c', 'setsid sleep 1000 & echo $!; exec sleep 1000'];
  const { clock, caller } = begin(t, { argv, timeoutMs: 1000 });
  const escaped = await escapedFrom(t, caller);
  clock.advance(1000);
  const { timedOut } = await advanceUntil(clock, caller.exit);
  t.true(timedOut);
  t.true(isRunning(escaped));
});

test('a process outside the group that keeps writing delays the timeout by half a second', async (t) => {
  const argv = ['sh', '-c', "setsid sh -c 'trap : PIPE; echo $$; while sleep 0.01; do echo x; done' & exec sleep 1000"];
  const { clock, caller } = begin(t, { argv, timeoutMs: 1000 });
  const [pid = 0] = await eventually(() => caller.stdout.includes('x') && caller.stdout.split('\n').map(Number));
  t.teardown(() => process.kill(pid, 'SIGKILL'));
  const leader = await caller.started;
  clock.advance(1000);
  await eventually(() => !isRunning(leader));
  // It writes between any two steps.
  for (let waitedMs = 0; waitedMs < 1000 && !caller.said.includes('EXIT'); waitedMs += 100) {
    const { length } = caller.stdout;
    await eventually(() => caller.stdout.length > length || caller.said.includes('EXIT'));
    clock.advance(100);
    await setImmediate();
  }
  await eventually(() => caller.said.includes('EXIT') || caller.stdout.length > 10_000);
  t.true(caller.said.includes('EXIT'));
  t.true((await caller.exit).timedOut);
  t.true(isRunning(pid));
});

const PATIENT = { timeoutMs: 1000, killAfterMs: MAX_TIMER_MS };

for (const [title, script, times, waitedMs, leftMs, signal] of [
  ['ends the whole group', WILLING, {}, 0, 0, 'SIGHUP'],
  ['ends stopped processes, too', WILLING.replace('wait; wait', () => 'kill -STOP $$; wait'), {}, 0, 0, 'SIGHUP'],
  ['ends processes that ignore HUP and TERM, five seconds later', STUBBORN, {}, 0, 5000, 'SIGKILL'],
  ['leaves a command at most half a minute', STUBBORN, PATIENT, 0, 30_000, 'SIGKILL'],
  ['leaves no more if it has already timed out', STUBBORN, PATIENT, 101_000, 30_000, 'SIGKILL'],
] as const) {
  test(`a caller that disconnects ${title}`, async (t) => {
    const { clock, runner, caller, far } = begin(t, { argv: ['sh', '-c', script], ...times });
    const pids = await pidsOf(caller, 4);
    if (script.includes('STOP')) await stopped(caller);
    clock.advance(waitedMs);
    const closed = new Promise((resolve) => far.once('close', resolve));
    far.destroy(reset());
    await closed;
    if (leftMs > 0) {
      await eventually(() => clock.pending > 0, { what: 'the timer' });
      clock.advance(leftMs - 1);
      t.true(pids.every(isRunning));
      t.is(runner.runner.runningCount, 1);
      clock.advance(1);
    }
    await allGone(pids);
    t.is((await ended(runner)).fields['signal'], signal);
    await advanceUntil(clock, runner.idle());
    t.is(clock.pending, 0);
  });
}

test('processes that outlive EXIT have half a minute, too', async (t) => {
  const stubborn = 'sh -c \'trap "" TERM; echo $$; exec >/dev/null 2>&1; sleep 1000; sleep 1000\'';
  const argv = ['sh', '-c', `${stubborn} & exec sleep 1000 >/dev/null 2>&1`];
  const { clock, runner, caller } = begin(t, { argv, ...PATIENT });
  const pids = await pidsOf(caller, 1);
  await eventually(() => caller.said.includes('EOF 1'), { what: 'the end of the output' });
  clock.advance(1000);
  t.like(await caller.exit, { signal: 'SIGTERM', timedOut: true });
  t.is(runner.runner.runningCount, 1);
  clock.advance(29_999);
  t.true(pids.every(isRunning));
  clock.advance(1);
  await allGone(pids);
  await advanceUntil(clock, runner.idle());
  t.is(clock.pending, 0);
});

const IMPORTER = 'trap "" HUP TERM; echo $$; exec > /dev/null 2>&1; cat; touch "$1"';

for (const [what, script, options] of [
  ['a command', IMPORTER],
  ['what a command has started, and left,', `sh -c '${IMPORTER}' sh "$1"; true`],
  [
    'what it has left, on pipes of Node,',
    `sh -c '${IMPORTER}' sh "$1"; true`,
    { openPipes: () => Promise.resolve(null) },
  ],
] as const)
  test(`${what} sees no end of the input within which its caller disconnects`, async (t) => {
    const folder = temporaryFolder(t);
    const { clock, runner, caller, far } = begin(t, { argv: ['sh', '-c', script, 'sh', `${folder}/whole`] }, options);
    const [pid = 0] = await pidsOf(caller, 1);
    caller.input(Buffer.alloc(1000));
    far.destroy(reset());
    await advanceUntil(clock, runner.idle());
    await allGone([pid]);
    t.deepEqual(readdirSync(folder), []);
  });

test('a caller that disconnects also ends processes left by a command that has exited, if the call was still open', async (t) => {
  const { clock, runner, caller, far } = begin(t, { argv: ['sh', '-c', 'sleep 1000 & echo $!'] });
  const pid = await caller.started;
  const [left = 0] = await pidsOf(caller, 1);
  await eventually(() => !isRunning(pid), { what: 'the end of the first process' });
  far.destroy(reset());
  await allGone([left]);
  t.is((await ended(runner)).fields['status'], 0);
  await advanceUntil(clock, runner.idle());
});

test('R-EXEC-2: a command whose caller disconnects while its start waits for its turn is not run', async (t) => {
  const { asked, gate, openPipes } = gatedPipes();
  const runner = new TestRunner(t, { openPipes });
  const { caller, far } = runner.open();
  caller.start({ argv: ['sleep', '1000'] });
  await asked.promise;
  far.destroy(reset());
  await eventually(() => far.closed, { what: 'the end of the stream' });
  gate.resolve();
  await runner.idle();
  t.deepEqual(runner.eventNames(), ['exec-refused']);
});

test('a caller that stops reading counts as disconnected', async (t) => {
  const runner = new TestRunner(t);
  const { caller, far } = runner.open();
  const pid = await caller.start({ argv: ['sleep', '1000'] }).started;
  far.emit('stop', new VproxyError('cancelled', 'the peer reads no more'));
  await eventually(() => !isRunning(pid), { what: 'the end' });
  t.true(far.destroyed);
});

for (const hangs of [false, true]) {
  const what = hangs ? 'does not wait for a command whose start hangs' : 'waits for a command that is starting';
  test(`stop ${what}; it is not run then`, async (t) => {
    const { asked, gate, openPipes } = gatedPipes();
    const clock = new ManualClock();
    const runner = new TestRunner(t, { clock, openPipes });
    const caller = runner.call({ argv: ['sleep', '1000'] });
    await asked.promise;
    const stopping = runner.runner.stop();
    if (hangs) {
      clock.advance(400);
      await stopping;
      t.deepEqual(runner.eventNames(), []);
    }
    gate.resolve();
    await stopping;
    t.deepEqual((await caller.exit).error, { code: 'command-failed', message: 'shutting down' });
    await runner.idle();
    t.deepEqual(runner.eventNames(), ['exec-refused']);
  });
}

test('stop ignores the kill delay that a caller asked for', async (t) => {
  const { clock, runner, caller, far } = begin(t, { argv: ['sh', '-c', STUBBORN], killAfterMs: 60_000 });
  const pids = await pidsOf(caller, 4);
  far.destroy(reset());
  await eventually(() => clock.pending > 0, { what: 'the timer' });
  const stopping = runner.runner.stop();
  await setImmediate();
  clock.advance(300);
  await allGone(pids);
  await stopping;
  t.is(runner.runner.runningCount, 0);
});

test('a caller that disconnects after EXIT ends nothing', async (t) => {
  const { caller, far } = begin(t, { argv: ['sh', '-c', 'sleep 1000 </dev/null >/dev/null 2>&1 & echo $!'] });
  await caller.exit;
  far.destroy(reset());
  const pid = Number(caller.stdout);
  t.true(isRunning(pid));
  process.kill(pid, 'SIGKILL');
});

test('stop ends every command, even if it ignores TERM, and reports how; new ones are refused', async (t) => {
  const runner = new TestRunner(t);
  const stubborn = runner.call({ argv: ['sh', '-c', STUBBORN] });
  const willing = runner.call({ argv: ['sh', '-c', WILLING] });
  const pids = [...(await pidsOf(stubborn, 4)), ...(await pidsOf(willing, 4))];
  await runner.runner.stop();
  t.is(runner.runner.runningCount, 0);
  await allGone(pids);
  t.deepEqual([(await stubborn.exit).signal, (await willing.exit).signal], ['SIGKILL', 'SIGTERM']);
  t.regex((await runner.run({ argv: ['true'] })).error?.message ?? '', /^shutting down$/);
});

test('stop waits at most 0.4 s by the clock', async (t) => {
  const argv = ['sh', '-c', 'setsid sleep 1000 & echo $!; trap "" TERM; sleep 1000'];
  const { clock, runner, caller } = begin(t, { argv });
  await escapedFrom(t, caller);
  const stopping = runner.runner.stop();
  await eventually(() => clock.pending >= 2, { what: 'the timers' });
  clock.advance(400);
  await stopping;
  t.is(runner.runner.runningCount, 0);
  t.is((await caller.exit).signal, 'SIGKILL');
});

test('a group that has exited gets no signals, and is reported once', async (t) => {
  const signals: string[] = [];
  const [clock, ended] = [new ManualClock(), deferred<ProcessEnd>()];
  let goneCount = 0;
  // Beyond the largest process id.
  const group = { pid: 2 ** 30, ended: ended.promise, signal: (name: string) => void signals.push(name) };
  const ender = new GroupEnder(group, clock, () => (goneCount += 1));
  ender.end(['SIGTERM'], 1000);
  ended.resolve({ status: 0, signal: null, usage: null });
  await ended.promise;
  t.deepEqual([ender.isEnding, goneCount], [false, 1]);
  ender.end(['SIGTERM'], 1000);
  clock.advance(1000);
  t.deepEqual([ender.isEnding, goneCount, signals.splice(0)], [false, 1, ['SIGTERM', 'SIGCONT']]);
});

test('a group that was killed is ending until its leader has exited', async (t) => {
  const [clock, ended] = [new ManualClock(), deferred<ProcessEnd>()];
  let goneCount = 0;
  const ender = new GroupEnder({ pid: 2 ** 30, ended: ended.promise, signal: () => undefined }, clock, () => {
    goneCount += 1;
  });
  t.false(ender.isEnding);
  ender.end(['SIGTERM'], 1000);
  clock.advance(1000);
  t.deepEqual([ender.isEnding, goneCount], [true, 0]);
  ended.resolve({ status: null, signal: 'SIGKILL', usage: null });
  await ended.promise;
  t.deepEqual([ender.isEnding, goneCount], [false, 1]);
});

test('a group that has exited is gone, even if another one has its number by now', async (t) => {
  const other = spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' });
  const exited = once(other, 'exit');
  t.teardown(() => other.kill('SIGKILL'));
  const pid = other.pid as number;
  // Its leader had this number, and was waited for.
  const group = new ProcessGroup({ pid, ended: Promise.resolve({ status: 0, signal: null, usage: null }) });
  await group.ended;
  const [clock, gone] = [new ManualClock(), deferred()];
  new GroupEnder(group, clock, () => gone.resolve()).end(['SIGTERM'], 0);
  clock.advance(0);
  await gone.promise;
  other.kill('SIGUSR1');
  t.deepEqual(await exited, [null, 'SIGUSR1']);
});

/** Commands run for a caller: their environment, input, outputs and results. */
import { createHook } from 'node:async_hooks';
import { spawnSync } from 'node:child_process';
import { readlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test from 'ava';
import { EXEC_KIND } from '../../lib/services/exec/exec-messages.js';
import { type OpenPipes, openSystemPipes } from '../../lib/system/processes/pipes.js';
import { encodeRecord } from '../../lib/util/bytes/records.js';
import { deferred, Turns } from '../../lib/util/concurrency.js';
import { checkUsage, gatedPipes, statOf, TestRunner } from '../helpers/exec-peers.js';
import { temporaryFolder } from '../helpers/files.js';
import { openFiles } from '../helpers/measures.js';
import { testWith } from '../helpers/test-with.js';
import { eventually, within } from '../helpers/time.js';
import { isRunning } from '../helpers/vproxy-process.js';

const asRoot = testWith('root');

const sh = (script: string): string[] => ['sh', '-c', script];
const ENDED = { stdout: '', stderr: '', status: 0, signal: null, timedOut: false, error: null };

for (const [what, script, input, expected, hasPipes = true] of [
  ['status and outputs', 'echo out; echo err >&2; exit 7', null, { stdout: 'out\n', stderr: 'err\n', status: 7 }],
  ['no input', 'readlink /proc/self/fd/0; cat', null, { stdout: '/dev/null\n' }],
  [
    'pipes, which can be reopened',
    'cat /dev/stdin; echo out > /dev/stdout; echo err > /dev/stderr; stat -L -c %F /dev/fd/[0-2]',
    'in\n',
    { stdout: 'in\nout\nfifo\nfifo\nfifo\n', stderr: 'err\n' },
  ],
  [
    'sockets, if pipes are not available',
    'cat; echo err >&2; exit 2',
    'x',
    { stdout: 'x', stderr: 'err\n', status: 2 },
    false,
  ],
] as const) {
  test(`a command's result: ${what}`, async (t) => {
    const runner = new TestRunner(t, hasPipes ? {} : { openPipes: () => Promise.resolve(null) });
    const caller = runner.call({ argv: sh(script), hasInput: input !== null });
    if (input !== null) caller.input(input).endInput();
    const { durationMs, usage, ...result } = await caller.exit;
    t.deepEqual({ stdout: caller.stdout, stderr: caller.stderr, ...result }, { ...ENDED, ...expected });
    t.true(durationMs > 0 && (usage?.cpuMs ?? 0) >= 0);
    t.is(runner.runner.runningCount, 0);
  });
}

test.serial('a real-time signal, which has no name, is reported by its number', async (t) => {
  const runner = new TestRunner(t);
  const kill = (number: number) => runner.run({ argv: sh(`kill -${number} $$`) });
  for (const [number, name] of [
    [34, 'SIG34'],
    [35, 'SIG35'],
    [64, 'SIG64'],
    [15, 'SIGTERM'],
  ] as const)
    t.like(await kill(number), { status: null, signal: name });
});

test.serial(
  'of a hundred commands at once, and of getent for their user, one starts in each turn of the loop',
  async (t) => {
    const starts = new Map<number, number>();
    const hook = createHook({
      init(_id, type) {
        const turn = performance.nodeTiming.uvMetricsInfo.loopCount;
        if (type === 'PROCESSWRAP') starts.set(turn, (starts.get(turn) ?? 0) + 1);
      },
    }).enable();
    t.teardown(() => hook.disable());
    // The starts of Node can be counted.
    const runner = new TestRunner(t, { openPipes: () => Promise.resolve(null) });
    const request = { argv: ['true'], user: os.userInfo().username };
    const ends = await Promise.all(Array.from({ length: 100 }, () => runner.run(request)));
    t.true(ends.every(({ status }) => status === 0));
    const perTurn = [...starts.values()];
    t.is(
      perTurn.reduce((sum, count) => sum + count, 0),
      200,
    );
    t.true(Math.max(...perTurn) <= 2, perTurn.join(' '));
  },
);

test('every byte and both EOFs come between STARTED and EXIT', async (t) => {
  const runner = new TestRunner(t);
  for (let round = 0; round < 10; round += 1) {
    const caller = runner.call({ argv: ['head', '-c', '40960', '/dev/zero'] });
    await caller.exit;
    t.is(caller.stdout.length, 40_960);
    // The output may come in several records.
    t.deepEqual([...new Set(caller.said)].sort(), ['EOF 1', 'EOF 2', 'EXIT', 'STARTED', 'STDOUT']);
    t.deepEqual([caller.said[0], caller.said.at(-1)], ['STARTED', 'EXIT']);
    t.true(caller.said.lastIndexOf('STDOUT') < caller.said.indexOf('EOF 1'));
  }
});

test('a closed output is reported at once, while the command continues', async (t) => {
  const caller = new TestRunner(t).call({ argv: sh('exec 1>&-; read line; echo "$line" >&2') });
  await eventually(() => caller.said.includes('EOF 1'), { what: 'EOF 1' });
  t.deepEqual(caller.said, ['STARTED', 'EOF 1']);
  caller.input('late\n');
  t.is((await caller.exit).status, 0);
  t.is(caller.stderr, 'late\n');
});

test('an output that the caller closes is closed for the command, even if that came before its start', async (t) => {
  const runner = new TestRunner(t);
  const ignoring = sh('trap "" PIPE; read line; while echo "$line"; do :; done 2>/dev/null; echo end >&2; exit 7');
  const early = runner.call({ argv: ignoring }).close(1).close(1);
  const running = runner.call({ argv: ignoring });
  await running.started;
  running.close(1);
  for (const caller of [early, running]) {
    await eventually(() => caller.said.includes('EOF 1'), { what: 'the end of the output' });
    t.like(await caller.input('line\n').exit, { status: 7, signal: null });
    t.deepEqual([caller.stdout, caller.stderr], ['', 'end\n']);
  }
  const both = runner.call({ argv: ['yes'] });
  t.like(await both.close(1).close(2).exit, { status: null, signal: 'SIGPIPE' });
});

test('as with ssh, a process that holds an output open keeps the call open', async (t) => {
  const caller = new TestRunner(t).call({ argv: sh('exec 3<&0; { read line <&3; echo "$line"; } & exit 3') });
  const pid = await caller.started;
  await eventually(() => !isRunning(pid), { what: 'the end of the first process' });
  t.deepEqual(caller.said, ['STARTED']);
  caller.input('from the background\n');
  t.is((await caller.exit).status, 3);
  t.is(caller.stdout, 'from the background\n');
});

test('a caller that half-closes still gets everything; the input ends', async (t) => {
  const caller = new TestRunner(t).call({ argv: sh('cat; echo end') });
  caller.input('x');
  caller.stream.end();
  t.is((await caller.exit).status, 0);
  t.is(caller.stdout, 'xend\n');
});

test('input that has ended can be reopened', async (t) => {
  const caller = new TestRunner(t).call({ argv: sh('kill -STOP $$; cat /dev/stdin') });
  const pid = await caller.started;
  caller.input('all').endInput();
  await eventually(() => statOf(pid)[0] === 'T', { what: 'the stop' });
  caller.signal('SIGCONT');
  t.is((await caller.exit).status, 0);
  t.is(caller.stdout, 'all');
});

test('no descriptor of this process reaches a command', async (t) => {
  const { stdout } = await new TestRunner(t).run({ argv: ['ls', '/proc/self/fd'] });
  // This process may have inherited some that every child inherits.
  const child = spawnSync('ls', ['/proc/self/fd'], { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });
  t.is(stdout, child.stdout);
});

test('no pipe of a command leaks, whether it runs, leaves its input unread, or cannot be started', async (t) => {
  const pipes = new Set<string>();
  const openPipes: OpenPipes = async (count, owner) => {
    const opened = await openSystemPipes(count, owner);
    for (const { readFd } of opened ?? []) pipes.add(readlinkSync(`/proc/self/fd/${readFd}`));
    return opened;
  };
  const runner = new TestRunner(t, { openPipes });
  const folder = temporaryFolder(t);
  writeFileSync(path.join(folder, 'script'), '#!/no/such/interpreter\n', { mode: 0o755 });
  t.is((await runner.run({ argv: ['true'] })).status, 0);
  t.is((await runner.call({ argv: ['true'] }).exit).status, 0);
  t.is((await runner.call({ argv: ['cat'] }).endInput().exit).status, 0);
  t.deepEqual((await runner.call({ argv: ['./script'], cwd: folder }).exit).error, {
    code: 'command-failed',
    message: `${folder}/./script: its interpreter does not exist`,
  });
  t.is(pipes.size, 11);
  const left = (): string[] => openFiles().filter((name) => pipes.has(name));
  await eventually(() => left().length === 0, { what: 'the end of all pipes' });
});

test('the environment is clean except for requested variables', async (t) => {
  const { homedir, username, shell } = os.userInfo();
  const runner = new TestRunner(t, { system: { path: '/usr/bin:/bin' } });
  const lines = [
    'PATH=/usr/bin:/bin',
    `HOME=${homedir}`,
    `USER=${username}`,
    `LOGNAME=${username}`,
    `SHELL=${shell ?? '/bin/sh'}`,
  ];
  const { stdout } = await runner.run({ argv: ['env'] });
  t.deepEqual(stdout.split('\n'), [...lines, '']);
  const named = await runner.run({ argv: ['env'], env: { A: 'b=c\nd', LANG: 'C' } });
  t.is(named.stdout, `${lines.join('\n')}\nA=b=c\nd\nLANG=C\n`);
});

test('the end tells what a command used, with the processes that it waited for', async (t) => {
  const runner = new TestRunner(t);
  await checkUsage(t, (argv) => runner.run({ argv }));
});

test('a command that cannot be run is answered with EXIT only, with the reason', async (t) => {
  const runner = new TestRunner(t);
  const caller = runner.call({ argv: ['no-such-command-x'] });
  t.like(await caller.exit, { status: null, signal: null, timedOut: false, durationMs: 0 });
  t.deepEqual(caller.said, ['EXIT']);
  const long = 'x'.repeat(200_000);
  for (const [argv, code, message] of [
    [['no-such-command-x'], 'command-not-found', 'no-such-command-x: command not found'],
    [[long], 'command-not-found', `${'x'.repeat(200)}…: command not found`],
    [['echo', long], 'command-failed', '/usr/bin/echo: argument list too long (E2BIG)'],
  ] as const) {
    t.deepEqual((await runner.run({ argv })).error, { code, message });
  }
  t.is(runner.runner.runningCount, 0);
  t.deepEqual(new Set(runner.eventNames()), new Set(['exec-refused']));
});

test('the number of commands is limited, and terminals may be unavailable', async (t) => {
  const runner = new TestRunner(t, { maxCommands: 2 });
  const [first, second] = [runner.call({ argv: ['cat'] }), runner.call({ argv: ['cat'] })];
  await Promise.all([first.started, second.started]);
  const { error } = await runner.run({ argv: ['true'] });
  t.deepEqual(error, { code: 'too-many-streams', message: 'too many commands running (max 2)' });
  await first.endInput().exit;
  t.is((await runner.run({ argv: ['true'] })).status, 0);
  await second.endInput().exit;
  const inTerminal = await runner.run({ argv: ['true'], terminal: { columns: 80, rows: 24, term: 'xterm' } });
  t.deepEqual(inTerminal.error, { code: 'command-failed', message: 'no terminals available here' });
});

test('R-EXEC-2: a command that waits starts when another has ended, in the order of arrival, and its input then', async (t) => {
  const runner = new TestRunner(t, { maxCommands: 1 });
  const first = runner.call({ argv: ['cat'] });
  await first.started;
  const [second, third] = ['2', '4'].map((text) => runner.call({ argv: sh(`echo ${text}; cat`), wait: true }));
  const gone = runner.open();
  gone.caller.start({ argv: ['cat'], wait: true });
  t.like((await runner.run({ argv: ['true'] })).error, { code: 'too-many-streams' });
  gone.far.destroy();
  third?.endInput();
  await first.endInput().exit;
  await second?.started;
  await eventually(() => second?.stdout === '2\n');
  t.deepEqual(third?.said, []);
  t.is((await second?.input('five').endInput().exit)?.status, 0);
  t.is(second?.stdout, '2\nfive');
  t.is((await third?.exit)?.status, 0);
  await runner.idle();
});

test('a rule may limit commands and jobs at any time, while jobs can be listed and ended', async (t) => {
  let most = 2;
  const runner = new TestRunner(t, { mostCommands: () => most });
  const job = runner.call({ argv: ['sleep', '1000'], detach: {} });
  const pid = await job.started;
  most = 1;
  const { error } = await runner.run({ argv: ['true'] });
  t.deepEqual(error, { code: 'too-many-streams', message: 'too many commands running (max 1)' });
  const waiting = ['1', '2'].map(() => runner.call({ argv: ['cat'], wait: true }).started);
  const { caller } = runner.open();
  caller.stream.write(encodeRecord(EXEC_KIND.LIST, ''));
  await eventually(() => caller.said.includes('JOBS'));
  most = 3;
  process.kill(pid);
  await Promise.all(waiting);
  t.is((await runner.run({ argv: ['true'] })).status, 0);
});

test('R-EXEC-2: a command that waits takes no input, and none starts after a stop', async (t) => {
  const runner = new TestRunner(t, { maxCommands: 1 });
  await runner.call({ argv: ['cat'] }).started;
  const early = runner.call({ argv: ['cat'], wait: true }).input('x');
  await t.throwsAsync(early.exit, { code: 'protocol-error', message: /STDIN exceeds its credit/ });
  const waiting = runner.call({ argv: ['cat'], wait: true });
  // This one is refused after the other has begun to wait.
  t.like((await runner.run({ argv: ['true'] })).error, { code: 'too-many-streams' });
  await runner.runner.stop();
  t.deepEqual((await waiting.exit).error, { code: 'command-failed', message: 'shutting down' });
});

for (const kind of [EXEC_KIND.LIST, EXEC_KIND.ATTACH, EXEC_KIND.STOP]) {
  test(`a stream without a request is refused once commands are not allowed: kind ${kind}`, async (t) => {
    const runner = new TestRunner(t);
    const { caller } = runner.open();
    runner.runner.allow(null);
    caller.stream.write(encodeRecord(kind, kind === EXEC_KIND.LIST ? '' : '{"id":"1-1"}'));
    await t.throwsAsync(caller.exit, { code: 'denied', message: /service exec is no longer allowed/ });
  });
}

for (const [what, code, ...rules] of [
  ['they are gone', 'command-denied', null],
  ['others replace them', 'command-denied', { commands: ['/bin/false'] }],
  ['others replace them in the end', 'command-denied', null, { commands: ['/bin/false'] }],
  ['others allow it, too', undefined, null, { commands: ['/bin/true'] }],
] as const) {
  test(`a command whose lookup hangs is decided by the rules after it: ${what}`, async (t) => {
    const [lookups, hang] = [new Turns(1), deferred()];
    const calls = new TestRunner(t, { system: { lookups } });
    const { runner } = calls;
    const held = lookups.run(null, () => hang.promise);
    const result = calls.run({ argv: ['true'] });
    await eventually(() => runner.runningCount === 1);
    for (const each of rules) runner.allow(each);
    hang.resolve();
    await held;
    t.is((await result).error?.code, code);
    t.deepEqual(calls.eventNames(), code === undefined ? ['exec-started', 'exec-ended'] : ['exec-refused']);
    t.is(runner.runningCount, 0);
  });
}

for (const [what, code, ...rules] of [
  ['they are gone', 'command-denied', null],
  ['others replace them', 'command-denied', { commands: ['/bin/false'] }],
  ['others replace them in the end', 'command-denied', null, { commands: ['/bin/false'] }],
  ['all commands are allowed', undefined, { commands: ['/bin/false'] }, { commands: 'any' }],
] as const) {
  test(`a command that has been looked up starts by the rules of that moment: ${what}`, async (t) => {
    const { asked, gate, openPipes } = gatedPipes();
    const calls = new TestRunner(t, { maxCommands: 1, openPipes });
    const starting = calls.run({ argv: ['true'] });
    await asked.promise;
    for (const each of rules) calls.runner.allow(each);
    if (rules.at(-1) === null) {
      const late = within(30_000, 'a refusal', calls.run({ argv: ['true'], wait: true }));
      t.is((await late).error?.code, 'command-denied');
    }
    gate.resolve();
    t.is((await starting).error?.code, code);
  });
}

test('R-EXEC-2: beyond the limit a command is refused while the others are still starting', async (t) => {
  const { gate, openPipes } = gatedPipes();
  const runner = new TestRunner(t, { maxCommands: 2, openPipes });
  const calls = Array.from({ length: 100 }, () =>
    runner
      .call({ argv: ['true'] })
      .input(Buffer.alloc(20_000))
      .endInput(),
  );
  const refused = await Promise.all(calls.slice(2).map(async ({ exit }) => (await exit).error?.code));
  t.deepEqual(new Set(refused), new Set(['too-many-streams']));
  gate.resolve();
  for (const { exit } of calls.slice(0, 2)) t.is((await exit).status, 0);
});

test('commands are logged with user and result; untrusted text is escaped', async (t) => {
  const runner = new TestRunner(t);
  const argv = [...sh('cat; exit 5'), 'a\u001b[2Jb'];
  const caller = runner.call({ argv });
  const pid = await caller.started;
  caller.input('12345').endInput();
  await caller.exit;
  const [started, ended] = runner.events;
  const { username: user, homedir: cwd } = os.userInfo();
  const facts = { argv, user, cwd, from: null, pid };
  t.deepEqual([started?.event, ended?.event], ['exec-started', 'exec-ended']);
  t.deepEqual(started?.fields, facts);
  const { durationMs, ...rest } = ended?.fields ?? {};
  t.is(typeof durationMs, 'number');
  t.deepEqual(rest, { ...facts, status: 5, signal: null, timedOut: false, inputBytes: 5, outputBytes: 5 });
  t.true(runner.events.every(({ message }) => message.includes('a\\x1b[2Jb')));
});

test('a command with many arguments is a short line in the log', async (t) => {
  const runner = new TestRunner(t);
  await runner.run({ argv: ['true', ...Array.from({ length: 5000 }, () => 'y'.repeat(20))] });
  for (const { message, fields } of runner.events) {
    t.true(message.length < 500);
    t.true(JSON.stringify(fields).length < 2000);
  }
});

asRoot('a command runs as another user, without any of root’s rights', async (t) => {
  const runner = new TestRunner(t);
  const { stdout, status } = await runner.run({
    argv: sh('id; echo $USER $LOGNAME; echo again > /dev/stdout; cat /etc/shadow'),
    user: 'nobody',
  });
  t.regex(stdout, /^uid=(\d+)\(nobody\) gid=(\d+)\((\w+)\) groups=\2\(\3\)\nnobody nobody\nagain\n$/);
  t.not(status, 0);
  t.is(runner.events[0]?.fields['user'], 'nobody');
});

/** Commands in a terminal, with koffi's calls and with script(1): owner, input, output and end. */
import { readdirSync, readlinkSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../../lib/errors.js';
import { type LoadTerminalCalls, loadTerminalCalls } from '../../../lib/services/exec/pty/pseudo-terminal.js';
import { spawnInTerminal } from '../../../lib/services/exec/pty/spawn-in-terminal.js';
import { spawnWithScript } from '../../../lib/services/exec/pty/spawn-with-script.js';
import { spawnWithPipes } from '../../../lib/services/exec/spawn-with-pipes.js';
import { statOf } from '../../helpers/exec-peers.js';
import { runInTerminal, startInTerminal } from '../../helpers/terminals.js';
import { testWith } from '../../helpers/test-with.js';
import { eventually } from '../../helpers/time.js';
import { isRunning } from '../../helpers/vproxy-process.js';

/** Only root can run a command as another user. */
const asRoot = testWith('root');

const TERMINAL = { columns: 101, rows: 33, term: 'xterm' };
const withoutKoffi: LoadTerminalCalls = () => Promise.reject(new Error("Cannot find package 'koffi'"));

/** Runs commands that print 40 KiB, in two ways, `count` times, four concurrently. */
async function runQuickCommands(t: ExecutionContext, count: number, loadCalls?: LoadTerminalCalls): Promise<void> {
  const scripts = ['head -c 30720 /dev/zero | base64 -w0; exit 5', 'x=$(printf %040960d 0); printf $x; exit 5'];
  let started = 0;
  const runSome = async (): Promise<void> => {
    while (started < count) {
      started += 1;
      const { ended } = await runInTerminal(t, scripts[started % 2] ?? '', { loadCalls });
      const { text, end } = await ended;
      t.deepEqual([text.length, end.status, end.signal], [40_960, 5, null], `run ${started}`);
    }
  };
  await Promise.all([runSome(), runSome(), runSome(), runSome()]);
}

test('40 KiB of a quick command are complete in 40 of 40 runs, with its status', (t) => runQuickCommands(t, 40));

test('without devpts, the file that is missing is named', async (t) => {
  const calls = { ...(await loadTerminalCalls()), unlock: () => '/dev/nopts/0' };
  await t.throwsAsync(runInTerminal(t, 'true', { loadCalls: () => Promise.resolve(calls) }), {
    code: 'command-failed',
    message: '/bin/sh: cannot open a terminal: /dev/nopts/0: no such file or directory (ENOENT)',
  });
});

test('40 KiB of a quick command are complete without koffi', (t) => runQuickCommands(t, 10, withoutKoffi));

for (const [how, loadCalls] of [
  ['with koffi', undefined],
  ['without koffi', withoutKoffi],
] as const) {
  test(`a terminal has its size from the start, and can be resized: ${how}`, async (t) => {
    const script = "trap 'stty size' WINCH; stty size; echo $TERM; echo ready; while :; do sleep 0.01; done";
    const { command, text, shows } = await runInTerminal(t, script, { loadCalls });
    await shows(/ready/);
    t.is(text(), '33 101\r\nxterm\r\nready\r\n');
    command.resize({ columns: 132, rows: 43 });
    t.truthy(await shows(/^43 132\r$/m));
  });

  test(`Ctrl-C interrupts the foreground group: ${how}`, async (t) => {
    // A shell runs its trap after the command that it has begun: a short one, which Ctrl-C may come before.
    const script = "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.01; done";
    const { type, shows, ended } = await runInTerminal(t, script, { loadCalls });
    await shows(/ready/);
    type('\u0003');
    t.like(await ended, { text: 'ready\r\n^Ccaught\r\n', end: { status: 4, signal: null } });
  });

  test(`Ctrl-D is EOF, and so is the end of the input, even within a line: ${how}`, async (t) => {
    for (const [typed, shown] of [
      ['one\n\u0004', 'one\r\none\r\n'],
      ['one\n', 'one\r\none\r\n'],
      ['one', 'oneone'],
      ['', ''],
    ] as const) {
      const { command, shows, ended } = await runInTerminal(t, 'echo ready; exec cat', { loadCalls });
      await shows(/ready/);
      command.stdin?.end(typed);
      t.like(await ended, { text: `ready\r\n${shown}`, end: { status: 0, signal: null } }, JSON.stringify(typed));
    }
  });

  test(`the end of the input is EOF for a shell that starts later: ${how}`, async (t) => {
    const { command, ended } = await startInTerminal(t, ['bash', '--norc', '-i'], { loadCalls, file: '/bin/bash' });
    command.stdin?.end();
    t.is((await ended).end.status, 0);
  });

  test(`job control works in an interactive shell: ${how}`, async (t) => {
    const { type, shows, ended } = await startInTerminal(t, ['sh', '-i'], { loadCalls });
    // Earlier input would be echoed before the prompt.
    await shows(/[$#] $/);
    // The command is in the foreground once it has printed something.
    type("sh -c 'echo $((40+2)); exec sleep 60'\n");
    await shows(/^42\r$/m);
    type('\u001a');
    await shows(/Stopped/);
    type('kill -9 %1\n');
    // A shell with stopped jobs needs two exits.
    type('exit 3\nexit 3\n');
    const { text, end } = await ended;
    t.like(end, { status: 3, signal: null });
    t.notRegex(text, /tty|job control/);
  });

  test(`releasing a terminal hangs its session up: ${how}`, async (t) => {
    const { command, shows } = await runInTerminal(t, 'echo pid $$; exec sleep 60', { loadCalls });
    const pid = Number((await shows(/pid (\d+)/))[1]);
    command.release();
    // Without koffi it is script that ends, at once.
    t.is((await command.ended).signal, loadCalls === undefined ? 'SIGHUP' : 'SIGKILL');
    await eventually(() => !isRunning(pid), { what: 'the end of the command' });
    command.signal('SIGTERM');
    command.resize(TERMINAL);
  });

  test(`a command that has stopped itself goes on, or is killed: ${how}`, async (t) => {
    for (const signal of ['SIGCONT', 'SIGKILL'] as const) {
      const { command, ended } = await runInTerminal(t, 'kill -STOP $$; echo on', { loadCalls });
      await eventually(() => statOf(command.pid)[0] === 'T', { what: 'a stop' });
      command.signal(signal);
      const { text, end } = await ended;
      t.is(text.includes('on'), signal === 'SIGCONT');
      if (signal === 'SIGKILL') t.true(end.signal === signal || end.status === 137);
    }
  });

  asRoot(`the terminal belongs to the command's user: ${how}`, async (t) => {
    const { ended } = await runInTerminal(t, 'id -u; stat -c %u "$(tty)"; echo here >"$(tty)"', {
      uid: 65_534,
      gid: 65_534,
      loadCalls,
    });
    t.is((await ended).text, '65534\r\n65534\r\nhere\r\n');
    const owned = await runInTerminal(t, 'stat -c %u "$(tty)"', { owner: { uid: 65_534, gid: 65_534 }, loadCalls });
    t.is((await owned.ended).text, '65534\r\n');
  });

  test(`all typed input arrives, however slowly it is read: ${how}`, async (t) => {
    const script = 'stty -icanon -icrnl -echo; echo ready; sleep 0.2; head -c 300000 | cksum';
    const { type, shows, ended } = await runInTerminal(t, script, { loadCalls });
    await shows(/ready/);
    type('0123456789'.repeat(30_000));
    t.regex((await ended).text, /^ready\r\n1993361615 300000\r\n$/);
  });
}

test('a command leads a session and its foreground group in a terminal of its own', async (t) => {
  const { command, shows } = await runInTerminal(t, 'tty; echo here >/dev/tty; exec sleep 60');
  const [, number] = await shows(/^\/dev\/pts\/(\d+)\r\nhere\r\n/);
  const [, , group, session, terminal, foreground] = statOf(command.pid).map(Number);
  t.deepEqual([group, session, foreground], [command.pid, command.pid, command.pid]);
  // Unix 98 terminals have the device numbers 136:0 and up.
  t.is(terminal, (136 << 8) | Number(number));
  const files = readdirSync(`/proc/${command.pid}/fd`).map((fd) => readlinkSync(`/proc/${command.pid}/fd/${fd}`));
  const terminals = files.filter((file) => /^\/dev\/(pts|ptmx|null)/.test(file));
  t.deepEqual(terminals, [`/dev/pts/${number}`, `/dev/pts/${number}`, `/dev/pts/${number}`]);
});

test('a command has the whole environment', async (t) => {
  const env = {
    PATH: process.env['PATH'] ?? '',
    'a-b.c': '1',
    BASH_ENV: '$(kill $$)',
    'BASH_FUNC_exec%%': '() { kill $$; }',
  };
  const { ended } = await startInTerminal(t, ['env'], { file: '/usr/bin/env', env });
  const { text } = await ended;
  for (const name of ['a-b.c=1', 'BASH_ENV=$(kill $$)', 'BASH_FUNC_exec%%=() { kill $$; }', 'TERM=xterm']) {
    t.true(text.split('\r\n').includes(name), name);
  }
});

test('4095 bytes of a typed line are kept, and of each unread line', async (t) => {
  const { command, shows, ended } = await runInTerminal(t, 'stty -echo; echo ready; sleep 0.2; exec wc -lc');
  await shows(/ready/);
  command.stdin?.end(`${'a'.repeat(5000)}\n${'0123456789\n'.repeat(10_000)}`);
  t.regex((await ended).text, /^ready\r\n +10001 +114096\r\n$/);
});

test('a signal ends the whole group, and is reported', async (t) => {
  const { command, shows, ended } = await runInTerminal(t, 'sleep 60 & echo child $!; wait');
  const child = Number((await shows(/child (\d+)/))[1]);
  command.signal('SIGTERM');
  t.like((await ended).end, { status: null, signal: 'SIGTERM' });
  await eventually(() => !isRunning(child), { what: 'the end of the child' });
  command.signal('SIGTERM');
});

test('without koffi a signal ends the command, and is reported as a status', async (t) => {
  const { command, shows, ended } = await runInTerminal(t, 'echo ready; sleep 60', { loadCalls: withoutKoffi });
  await shows(/ready/);
  command.signal('SIGTERM');
  t.like((await ended).end, { status: 143, signal: null });
});

test('the output ends with the command, although a background process has the terminal open', async (t) => {
  const { ended } = await runInTerminal(t, "trap '' HUP; sleep 60 & echo child $!");
  const { text, end } = await ended;
  const child = Number(/child (\d+)/.exec(text)?.[1]);
  t.teardown(() => process.kill(child, 'SIGKILL'));
  t.like(end, { status: 0, signal: null });
  t.true(isRunning(child));
});

test('no descriptor leaks, even if a command cannot be started', async (t) => {
  const count = () => readdirSync('/proc/self/fd').length;
  const options = { file: '/bin/sh', argv: ['sh', '-c', 'echo x'], cwd: '/', env: {} };
  const run = async (): Promise<void> => {
    const { stdout, ended } = await spawnInTerminal(options, TERMINAL);
    stdout.resume();
    await ended;
  };
  await run();
  const before = count();
  for (let round = 0; round < 50; round++) await run();
  for (let round = 0; round < 5; round++) {
    const error = await t.throwsAsync(spawnInTerminal({ ...options, cwd: '/nowhere' }, TERMINAL));
    t.deepEqual([codeOf(error), error.message], ['command-failed', '/bin/sh: folder /nowhere does not exist']);
    const gone = new VproxyError('command-failed', 'the caller has gone');
    const unwanted = {
      ...options,
      requireWanted: () => {
        throw gone;
      },
    };
    for (const spawn of [spawnInTerminal, spawnWithScript]) t.is(await t.throwsAsync(spawn(unwanted, TERMINAL)), gone);
    t.is(await t.throwsAsync(spawnWithPipes(unwanted)), gone);
  }
  // Other tests have terminals open, too, and close them.
  await eventually(() => count() <= before, { what: 'the end of all descriptors' });
});

test('without koffi and script(1) the error names what is missing', async (t) => {
  const options = { file: '/bin/sh', argv: ['sh'], cwd: '/', env: {} };
  const error = await t.throwsAsync(spawnWithScript(options, TERMINAL, ['/nowhere/script', '/bin/busybox']));
  t.is(codeOf(error), 'command-failed');
  t.is(
    error.message,
    '/bin/sh: a terminal needs the optional package koffi (npm install koffi) or script(1) of util-linux',
  );
});

const codeOf = (error: unknown): string | undefined => (error instanceof VproxyError ? error.code : undefined);

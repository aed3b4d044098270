/** Channels that a command, or the parent of the process, provides: `exec:`, `stdio:` and `fd:`. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { fdKind } from '../../lib/channel/inherited.js';
import { VproxyError } from '../../lib/errors.js';
import { DEVICE_FLAGS, dial, dialFd, dialStdio, makePipe, record } from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { openPty } from '../helpers/terminals.js';
import { eventually } from '../helpers/time.js';
import { isRunning } from '../helpers/vproxy-process.js';

/** A started link to a command. */
async function start(t: ExecutionContext, command: string) {
  const link = await dial(t, `exec:${command.replaceAll(',', ',,')}`);
  return { link, handler: record(link) };
}

test('a command is one line of the shell, and a comma in it is written twice', async (t) => {
  const { handler } = await start(t, 'printf "%s," a b | tr a A');
  await handler.closed;
  t.is(handler.bytes.toString(), 'A,b,');
});

for (const [command, says] of [
  ['echo last; exit 3', 'it ended with status 3'],
  ['exit 0', 'it ended with status 0'],
  ['kill -9 $$', 'SIGKILL ended it'],
  ['exec no-such-command-anywhere 2>&1', 'it ended with status 127'],
] as const) {
  test(`a command that ends is channel-closed, and the message says how: ${command}`, async (t) => {
    const { handler } = await start(t, command);
    const { code, message } = await handler.closed;
    t.is(code, 'channel-closed');
    t.true(message.includes(says), message);
    if (command.startsWith('echo')) t.is(handler.bytes.toString(), 'last\n');
  });
}

const gone = (pid: number) => eventually(() => !isRunning(pid), { what: `the end of process ${pid}` });

test('a command that ends and leaves a process with its output behind has ended', async (t) => {
  const file = join(temporaryFolder(t), 'pid');
  const { handler } = await start(t, `sleep 100 & echo $! > ${file}; exit 5`);
  t.regex((await handler.closed).message, /status 5/);
  await gone(Number(readFileSync(file, 'utf8')));
});

for (const how of ['close', 'destroy'] as const) {
  test(`${how} ends the command and what it started, also where they ignore SIGTERM`, async (t) => {
    const file = join(temporaryFolder(t), 'pids');
    const command = `trap "" TERM; sleep 100 & echo $! $$ > ${file}; echo up; while :; do sleep 1; done`;
    const { link, handler } = await start(t, command);
    await handler.received(3);
    link[how](20);
    t.is((await handler.closed).code, 'shutdown');
    const pids = readFileSync(file, 'utf8').trim().split(' ').map(Number);
    t.is(pids.length, 2);
    for (const pid of pids) await gone(pid);
  });
}

test('a command that ends at the end of its input is not signalled', async (t) => {
  const file = join(temporaryFolder(t), 'said');
  const command = `trap "echo signalled > ${file}; exit" TERM; cat > /dev/null; echo ended > ${file}`;
  const { link, handler } = await start(t, command);
  link.write(Buffer.from('x'));
  link.close(30_000);
  t.is((await handler.closed).code, 'shutdown');
  t.is(readFileSync(file, 'utf8').trim(), 'ended');
});

test('an inherited channel that ended cannot be opened again, whatever has its number then', async (t) => {
  const kind = fdKind();
  const fd = openSync((await openPty(t)).path, DEVICE_FLAGS);
  const link = await dialFd(t, fd, kind);
  const handler = record(link);
  link.close();
  t.is((await handler.closed).code, 'shutdown');
  await t.throwsAsync(dialFd(t, fd, kind), { instanceOf: VproxyError, code: 'channel-lost' });
});

test('an inherited terminal that is hung up is over for good', async (t) => {
  const pty = await openPty(t);
  const handler = record(await dialFd(t, openSync(pty.path, DEVICE_FLAGS)));
  pty.hangUp();
  const { code, message } = await handler.closed;
  t.true(['channel-ended', 'channel-lost'].includes(code), message);
});

test('what cannot carry bytes both ways is refused, and not changed', async (t) => {
  const file = join(temporaryFolder(t), 'regular');
  writeFileSync(file, 'precious');
  const pipe = makePipe(t);
  for (const [fd, says] of [
    [openSync(file, 'r+'), 'neither a socket nor a device'],
    [openSync(dirname(file), 'r'), 'neither a socket nor a device'],
    [makePipe(t).out, 'one way only'],
    [openSync('/dev/null', 'r+'), 'neither a terminal nor'],
    [999_999, 'this process was not given it'],
  ] as const) {
    const { message } = await t.throwsAsync(dialFd(t, fd), { instanceOf: VproxyError, code: 'channel-unusable' });
    t.true(message.startsWith(`fd:${fd}: `) && message.includes(says), message);
  }
  for (const [input, output, says] of [
    [openSync(file, 'r+'), pipe.in, 'standard input is a file'],
    [pipe.out, openSync('/dev/null', 'r+'), 'standard output is a device'],
  ] as const) {
    const { message } = await t.throwsAsync(dialStdio(t, input, output), { code: 'channel-unusable' });
    t.true(message.includes(says), message);
  }
  t.is(readFileSync(file, 'utf8'), 'precious');
});

test('the end of stdio: is seen at the other end of its pipe although the process goes on', async (t) => {
  const script = `
    import { stdio } from ${JSON.stringify(new URL('../../lib/channel/inherited.js', import.meta.url).href)};
    const link = await stdio.dial('', { signal: new AbortController().signal, report: { waiting() {} } });
    const ignore = () => false;
    link.start({ onBytes: ignore, onDrain: ignore, onClosed: ignore });
    link.write(Buffer.from('last words'));
    link.close();
    setInterval(ignore, 60_000);
    console.error(process.pid);`;
  // The shell joins them with pipes, which Node does not.
  const command = 'sleep 100 | "$0" --input-type=module -e "$1" | { cat; echo; }';
  const child = spawn('/bin/sh', ['-c', command, process.execPath, script], { detached: true });
  t.teardown(() => process.kill(-(child.pid ?? 0), 'SIGKILL'));
  const pid = Number(await once(child.stderr, 'data'));
  const output: Buffer[] = [];
  child.stdout.on('data', (bytes: Buffer) => output.push(bytes));
  await eventually(() => Buffer.concat(output).toString() === 'last words\n', { what: 'the end' });
  t.true(process.kill(pid, 0));
});

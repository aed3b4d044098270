/** Channels over pipes: of a command or of the parent process (`exec:`, `stdio:`, `fd:`), and QEMU's pipe chardev. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, readSync, statSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import fs from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { fdKind } from '../../lib/channel/inherited.js';
import { createFifos } from '../../lib/channel/pipe-open.js';
import { VproxyError } from '../../lib/errors.js';
import { MAX_TIMER_MS } from '../../lib/util/clock.js';
import {
  DEVICE_FLAGS,
  dial,
  dialFd,
  dialStdio,
  makeFifos,
  makePipe,
  record,
  refuses,
} from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { openPty } from '../helpers/terminals.js';
import { eventually } from '../helpers/time.js';
import { isRunning } from '../helpers/vproxy-process.js';

/** A started link to a command. */
async function start(t: ExecutionContext, command: string) {
  const link = await dial(t, `exec:${command.replaceAll(',', ',,')}`);
  return { link, handler: record(link) };
}

test('a command is a shell command line, and a comma in it is doubled', async (t) => {
  const { handler } = await start(t, 'printf "%s," a b | tr a A');
  await handler.closed;
  t.is(handler.bytes.toString(), 'A,b,');
});

test('a command that exits is channel-closed with its status, and processes that held its output are ended, too', async (t) => {
  for (const [command, says, output] of [
    ['echo last; exit 3', 'exited with status 3', /^last\n$/],
    ['exit 0', 'exited with status 0', /^$/],
    ['kill -9 $$', 'killed by SIGKILL', /^$/],
    ['exec no-such-command-anywhere 2>&1', 'exited with status 127', /not found/],
    ['sleep 100 & echo $!; exit 5', 'exited with status 5', /^\d+\n$/],
  ] as const) {
    const { handler } = await start(t, command);
    const { code, message } = await handler.closed;
    t.is(code, 'channel-closed', command);
    t.true(message.includes(says), message);
    const text = handler.bytes.toString();
    t.regex(text, output, command);
    if (command.startsWith('sleep')) await gone(Number(text));
  }
});

const gone = (pid: number) => eventually(() => !isRunning(pid), { what: `the end of process ${pid}` });

for (const how of ['close', 'destroy'] as const) {
  test(`${how} ends the command and its children, even if they ignore SIGTERM`, async (t) => {
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

test('a command that exits at EOF gets no signal', async (t) => {
  const file = join(temporaryFolder(t), 'said');
  const command = `trap "echo signalled > ${file}; exit" TERM; cat > /dev/null; echo ended > ${file}`;
  const { link, handler } = await start(t, command);
  link.write(Buffer.from('x'));
  link.close(MAX_TIMER_MS);
  t.is((await handler.closed).code, 'shutdown');
  t.is(readFileSync(file, 'utf8').trim(), 'ended');
});

test('a closed inherited channel cannot be reopened, even if its number is in use again', async (t) => {
  const kind = fdKind();
  const fd = openSync((await openPty(t)).path, DEVICE_FLAGS);
  const link = await dialFd(t, fd, kind);
  const handler = record(link);
  link.close();
  t.is((await handler.closed).code, 'shutdown');
  await t.throwsAsync(dialFd(t, fd, kind), { instanceOf: VproxyError, code: 'channel-lost' });
});

test('an inherited terminal that is hung up is closed for good', async (t) => {
  const pty = await openPty(t);
  const handler = record(await dialFd(t, openSync(pty.path, DEVICE_FLAGS)));
  pty.hangUp();
  const { code, message } = await handler.closed;
  t.true(['channel-ended', 'channel-lost'].includes(code), message);
});

test('a descriptor that cannot carry bytes both ways is refused and not changed', async (t) => {
  const file = join(temporaryFolder(t), 'regular');
  writeFileSync(file, 'precious');
  const pipe = makePipe(t);
  for (const [fd, says] of [
    [openSync(file, 'r+'), 'neither a socket nor a device'],
    [openSync(dirname(file), 'r'), 'neither a socket nor a device'],
    [makePipe(t).out, 'one way only'],
    [openSync('/dev/null', 'r+'), 'neither a terminal nor'],
    [999_999, 'not an open descriptor of this process'],
  ] as const) {
    await refuses(t, dialFd(t, fd), 'channel-unusable', says, `fd:${fd}: `);
  }
  for (const [input, output, says] of [
    [openSync(file, 'r+'), pipe.in, 'standard input is a file'],
    [pipe.out, openSync('/dev/null', 'r+'), 'standard output is a device'],
  ] as const) {
    await refuses(t, dialStdio(t, input, output), 'channel-unusable', says, 'stdio:');
  }
  t.is(readFileSync(file, 'utf8'), 'precious');
});

test('the other end of stdio: sees EOF even if the process continues', async (t) => {
  const script = `
    import { stdio } from ${JSON.stringify(new URL('../../lib/channel/inherited.js', import.meta.url).href)};
    const link = await stdio.dial('', { signal: new AbortController().signal, report: { waiting() {} } });
    const ignore = () => false;
    link.start({ onBytes: ignore, onDrain: ignore, onClosed: ignore });
    link.write(Buffer.from('last words'));
    link.close();
    setInterval(ignore, 60_000);
    console.error(process.pid);`;
  // The shell joins them with pipes, unlike Node.
  const command = 'sleep 100 | "$0" --input-type=module -e "$1" | { cat; echo; }';
  const child = spawn('/bin/sh', ['-c', command, process.execPath, script], { detached: true });
  t.teardown(() => process.kill(-(child.pid ?? 0), 'SIGKILL'));
  const pid = Number(await once(child.stderr, 'data'));
  const output: Buffer[] = [];
  child.stdout.on('data', (bytes: Buffer) => output.push(bytes));
  await eventually(() => Buffer.concat(output).toString() === 'last words\n', { what: 'the end' });
  t.true(process.kill(pid, 0));
});

// QEMU's pipe chardev: the FIFOs of a channel, and their creation.

/** Opens a FIFO as QEMU does: both ways, after vproxy. */
function openAsQemu(t: ExecutionContext, file: string): number {
  const fd = openSync(file, DEVICE_FLAGS);
  t.teardown(() => closeSync(fd));
  return fd;
}

// Serial, and so before the others: it measures the CPU time of this process.
test.serial('blocked writes cost no CPU time', async (t) => {
  const link = await dial(t, `pipe-open:${makeFifos(t)}`);
  record(link);
  while (link.write(Buffer.alloc(65_536)));
  const before = process.cpuUsage();
  const beganAt = performance.now();
  await promisify(execFile)('sleep', ['0.3']);
  const { user, system } = process.cpuUsage(before);
  const usedMs = (user + system) / 1000;
  const passedMs = performance.now() - beganAt;
  t.true(usedMs < passedMs / 3, `${usedMs} of ${passedMs} ms`);
});

test('.out carries data from the guest, .in data for it', async (t) => {
  const host = makeFifos(t);
  const link = await dial(t, `pipe-open:${host}`);
  const handler = record(link);
  writeSync(openAsQemu(t, `${host}.out`), 'from the guest');
  await handler.received(14);
  t.is(handler.bytes.toString(), 'from the guest');
  t.true(link.write(Buffer.from('for the guest')));
  const room = Buffer.alloc(100);
  t.is(room.toString('utf8', 0, readSync(openAsQemu(t, `${host}.in`), room)), 'for the guest');
});

test('the link stays when QEMU exits, and the next QEMU gets the data in the FIFO', async (t) => {
  const host = makeFifos(t);
  const guest = `${host}-guest`;
  symlinkSync(`${host}.in`, `${guest}.out`);
  symlinkSync(`${host}.out`, `${guest}.in`);
  const near = await dial(t, `pipe-open:${host}`);
  const handler = record(near);
  const first = await dial(t, `pipe-open:${guest}`);
  const firstHandler = record(first);
  first.close();
  await firstHandler.closed;
  near.write(Buffer.from('stale'));
  const next = await dial(t, `pipe-open:${guest}`);
  await record(next).received(5);
  next.write(Buffer.from('back'));
  await handler.received(4);
  t.is(handler.closings.length, 0);
});

test('close waits only for its own writes', async (t) => {
  const link = await dial(t, `pipe-open:${makeFifos(t)}`);
  const handler = record(link);
  link.write(Buffer.from('last words'));
  link.close(MAX_TIMER_MS);
  t.is((await handler.closed).code, 'shutdown');
});

test('missing FIFOs are waited for; anything else is refused', async (t) => {
  const file = join(temporaryFolder(t), 'pipe');
  const isRefused = (code: string, says: string) => refuses(t, dial(t, `pipe-open:${file}`), code, says, 'pipe-open:');
  await isRefused('channel-missing', `${file}.out`);
  execFileSync('mkfifo', [`${file}.out`]);
  await isRefused('channel-missing', `${file}.in`);
  writeFileSync(`${file}.in`, 'precious');
  await isRefused('channel-unusable', `${file}.in is not a FIFO`);
  t.is(readFileSync(`${file}.in`, 'utf8'), 'precious');
});

const PLAIN = { owner: null, mode: 0o660 };

test('three FIFOs are created with their mode, whatever the umask; existing ones are kept and corrected', async (t) => {
  const base = join(temporaryFolder(t), 'pipe');
  execFileSync('mkfifo', ['-m', '0600', `${base}.in`]);
  const before = statSync(`${base}.in`);
  const fifos = await createFifos(base, { ...PLAIN, mode: 0o666 });
  const found = fifos.map(({ path, isOld }) => `${path} ${isOld}`);
  t.deepEqual(found, [`${base} false`, `${base}.in true`, `${base}.out false`]);
  for (const fifo of fifos) {
    const found = await fs.lstat(fifo.path);
    t.true(found.isFIFO());
    t.deepEqual([found.mode & 0o7777, fifo.uid], [0o666, found.uid]);
  }
  t.is(statSync(`${base}.in`).ino, before.ino);
});

for (const [what, make] of [
  ['a file', (file: string) => fs.writeFile(file, 'precious')],
  ['a folder', (file: string) => fs.mkdir(file)],
  ['a link to a FIFO', (file: string) => fs.symlink('fifo', file)],
] as const) {
  test(`${what} in place of a FIFO is cannot-create, and nothing is created`, async (t) => {
    const folder = temporaryFolder(t);
    const base = join(folder, 'pipe');
    execFileSync('mkfifo', [join(folder, 'fifo')]);
    await make(`${base}.out`);
    const error = await t.throwsAsync(createFifos(base, PLAIN), { instanceOf: VproxyError, code: 'cannot-create' });
    t.is(error.message, `${base}.out: already exists and is not a FIFO`);
    t.is(error.row.exit, 73);
    t.deepEqual((await fs.readdir(folder)).sort(), ['fifo', 'pipe.out']);
  });
}

test('a system error is reported in its own words', async (t) => {
  const folder = temporaryFolder(t);
  for (const [path, owner, message] of [
    ['none/pipe', null, /none\/pipe: mkfifo: .*No such file/],
    ['pipe', 'no-such-user-here', /chown: .*no-such-user-here/],
  ] as const) {
    await t.throwsAsync(createFifos(join(folder, path), { ...PLAIN, owner }), { code: 'cannot-create', message });
  }
});

test('owner and SELinux type are set where they apply', async (t) => {
  const folder = temporaryFolder(t);
  const base = join(folder, 'pipe');
  const commands: string[] = [];
  const system = {
    selinuxFolder: folder,
    run: (file: string, args: readonly string[]) => {
      commands.push([file, ...args].join(' '));
      if (file === 'mkfifo') execFileSync(file, args);
      return Promise.resolve();
    },
  };
  const options = { owner: 'qemu:kvm', mode: 0o660 };
  await createFifos(base, options, system);
  t.notRegex(commands.splice(0).join('\n'), /^chcon/m, 'SELinux is off');
  writeFileSync(join(folder, 'enforce'), '0');
  await createFifos(base, options, system);
  t.deepEqual(commands.slice(2, 4), [`chown -h -- qemu:kvm ${base}.in`, `chcon -h -t svirt_image_t -- ${base}.in`]);
  t.is(commands.length, 6);
});

test('a link that replaces a FIFO gets none of its permissions', async (t) => {
  const folder = temporaryFolder(t);
  const [base, victim] = [join(folder, 'pipe'), join(folder, 'victim')];
  writeFileSync(victim, 'a secret', { mode: 0o600 });
  // As the owner of the folder could do.
  const run = () => fs.symlink(victim, base);
  await t.throwsAsync(createFifos(base, PLAIN, { run }), { code: 'cannot-create', message: /another file/ });
  t.is(statSync(victim).mode & 0o777, 0o600);
});

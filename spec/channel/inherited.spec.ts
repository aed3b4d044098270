import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants, openSync, readFileSync } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { fdKind, stdioKind } from '../../lib/channel/inherited.js';
import { VproxyError } from '../../lib/errors.js';
import type { Link } from '../../lib/link/link.js';
import { testEnds, testLinks } from '../helpers/channel-conformance.js';
import { LinkRecorder, makeFolder, patiently } from '../helpers/channel-pair.js';
import { openPty, openPtyPair } from '../helpers/terminals.js';
import { eventually } from '../helpers/time.js';

const DEVICE_FLAGS = constants.O_RDWR | constants.O_NOCTTY;

/** A pipe's two ends. */
async function makePipe(t: ExecutionContext): Promise<{ readonly out: number; readonly in: number }> {
  const file = path.join(await makeFolder(t), 'pipe');
  execFileSync('mkfifo', [file]);
  const out = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  return { out, in: openSync(file, constants.O_WRONLY) };
}

async function dialStdio(t: ExecutionContext, inputFd: number, outputFd: number): Promise<Link> {
  const link = await stdioKind(inputFd, outputFd).dial('', patiently());
  t.teardown(() => link.destroy());
  return link;
}

/** Not the kind of the table: numbers come again in this process. */
async function dialFd(t: ExecutionContext, fd: number, kind = fdKind()): Promise<Link> {
  const link = await kind.dial(fd, patiently());
  t.teardown(() => link.destroy());
  return link;
}

async function openStdioPair(t: ExecutionContext): Promise<{ near: Link; far: Link }> {
  const [up, down] = [await makePipe(t), await makePipe(t)];
  return { near: await dialStdio(t, down.out, up.in), far: await dialStdio(t, up.out, down.in) };
}

testLinks('stdio over pipes', openStdioPair);
testEnds('stdio over pipes', openStdioPair, 'channel-ended');

testLinks('fd over a terminal', async (t) => {
  const [one, other] = await openPtyPair(t);
  return {
    near: await dialFd(t, openSync(one.path, DEVICE_FLAGS)),
    far: await dialFd(t, openSync(other.path, DEVICE_FLAGS)),
  };
});

test('an inherited channel that ended cannot be opened again, whatever has its number then', async (t) => {
  const pty = await openPty(t);
  const kind = fdKind();
  const fd = openSync(pty.path, DEVICE_FLAGS);
  const link = await dialFd(t, fd, kind);
  const handler = new LinkRecorder();
  link.start(handler);
  link.close();
  t.is((await handler.closed).code, 'shutdown');
  const error = await t.throwsAsync(kind.dial(fd, patiently()), { instanceOf: VproxyError, code: 'channel-lost' });
  t.false(error.row.retry);
});

test('an inherited terminal that is hung up is over for good', async (t) => {
  const pty = await openPty(t);
  const link = await dialFd(t, openSync(pty.path, DEVICE_FLAGS));
  const handler = new LinkRecorder();
  link.start(handler);
  pty.hangUp();
  const reason = await handler.closed;
  t.true(['channel-ended', 'channel-lost'].includes(reason.code), reason.message);
  t.false(reason.row.retry);
});

async function refuses(t: ExecutionContext, fd: number, says: string) {
  const error = await t.throwsAsync(fdKind().dial(fd, patiently()), {
    instanceOf: VproxyError,
    code: 'channel-unusable',
  });
  t.true(error.message.startsWith(`fd:${fd}: `), error.message);
  t.true(error.message.includes(says), error.message);
}

test('a descriptor that cannot carry bytes both ways is refused', async (t) => {
  const file = path.join(await makeFolder(t), 'regular');
  await fs.writeFile(file, 'precious');
  await refuses(t, openSync(file, 'r+'), 'neither a socket nor a device');
  await refuses(t, openSync(path.dirname(file), 'r'), 'neither a socket nor a device');
  await refuses(t, (await makePipe(t)).out, 'one way only');
  await refuses(t, openSync('/dev/null', 'r+'), 'neither a terminal nor');
  await refuses(t, 999_999, 'this process was not given it');
  t.is(readFileSync(file, 'utf8'), 'precious');
});

test('standard input or output that is no pipe and no socket is refused', async (t) => {
  const file = path.join(await makeFolder(t), 'regular');
  await fs.writeFile(file, '');
  const pipe = await makePipe(t);
  for (const [input, output, says] of [
    [openSync(file, 'r+'), pipe.in, 'standard input is a file'],
    [pipe.out, openSync('/dev/null', 'r+'), 'standard output is a device'],
  ] as const) {
    const attempt = stdioKind(input, output).dial('', patiently());
    const error = await t.throwsAsync(attempt, { instanceOf: VproxyError, code: 'channel-unusable' });
    t.true(error.message.includes(says), error.message);
  }
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

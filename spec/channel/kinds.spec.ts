/** Unix sockets and TCP: what dialling and listening reject with, and what becomes of socket files. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import { type ErrorCode, VproxyError } from '../../lib/errors.js';
import type { Link } from '../../lib/link/link.js';
import { deferred } from '../../lib/util/concurrency.js';
import { dial, listen, patiently, record } from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { freePort } from '../helpers/ports.js';
import { eventually } from '../helpers/time.js';

async function rejects(t: ExecutionContext, attempt: Promise<unknown>, code: ErrorCode, says: string): Promise<void> {
  const { message } = await t.throwsAsync(attempt, { instanceOf: VproxyError, code });
  t.true(message.includes(says), message);
  t.false(message.includes('\n'));
}

/** A process that listens on a socket file. */
async function listener(t: ExecutionContext, file: string, backlog = 511) {
  const options = JSON.stringify({ path: file, backlog });
  const script = `require('net').createServer().listen(${options}, () => console.log('up'))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

/** A socket file whose listener died without removing it. */
async function leaveStaleSocket(t: ExecutionContext, file: string): Promise<void> {
  const child = await listener(t, file);
  child.kill('SIGKILL');
  await once(child, 'exit');
}

test('what can be dialled: a socket, also behind a link where that may be; anything else says what is wrong', async (t) => {
  const folder = temporaryFolder(t);
  const at = (name: string): string => join(folder, name);
  const unix = (name: string, isFollowed = true) =>
    dial(t, `unix-connect:${at(name)}`, { ...patiently(), ...(isFollowed ? {} : { followsLinks: false }) });
  let accepted = 0;
  await listen(t, `unix-listen:${at('socket')}`, {
    onLink: (link) => {
      accepted += 1;
      link.destroy();
    },
  });
  symlinkSync('socket', at('link'));
  writeFileSync(at('regular'), '');
  await leaveStaleSocket(t, at('stale'));
  await unix('link');
  await unix('socket', false);
  await rejects(t, unix('link', false), 'channel-unusable', 'a symbolic link');
  for (const isFollowed of [true, false]) {
    await rejects(t, unix('regular', isFollowed), 'channel-unusable', 'not a socket');
    await rejects(t, unix('none', isFollowed), 'channel-missing', at('none'));
    await rejects(t, unix('stale', isFollowed), 'channel-refused', at('stale'));
  }
  await rejects(t, dial(t, `tcp-connect:127.0.0.1:${await freePort()}`), 'channel-refused', '127.0.0.1:');
  // Behind these another one is accepted for certain.
  await unix('socket');
  await eventually(() => accepted === 3, { what: 'the third' });
});

test('dialling that is given up rejects with shutdown, before and meanwhile', async (t) => {
  const aborted = { ...patiently(), signal: AbortSignal.abort() };
  await rejects(t, dial(t, 'tcp-connect:127.0.0.1:1', aborted), 'shutdown', 'given up');
  const abort = new AbortController();
  const { description } = await listen(t, 'tcp-listen:127.0.0.1:0');
  const attempt = dial(t, description.replace('listen', 'connect'), { ...patiently(), signal: abort.signal });
  abort.abort();
  await rejects(t, attempt, 'shutdown', 'given up');
});

test.serial('the umask stays as it was when a socket file is made', async (t) => {
  const folder = temporaryFolder(t);
  const modeOf = (name: string): number => {
    writeFileSync(join(folder, name), '', { mode: 0o666 });
    return statSync(join(folder, name)).mode;
  };
  const before = modeOf('before');
  await listen(t, `unix-listen:${folder}/channel.sock`);
  t.is(modeOf('after'), before);
});

test('a socket file has the mode 0600 before anybody can connect', async (t) => {
  const file = join(temporaryFolder(t), 'channel.sock');
  const opening = listen(t, `unix-listen:${file}`);
  while (!existsSync(file)) await new Promise((resolve) => setImmediate(resolve));
  t.is(statSync(file).mode & 0o777, 0o600);
  await opening;
  t.is(statSync(file).mode & 0o777, 0o600);
});

test('a stale socket file is replaced', async (t) => {
  const file = join(temporaryFolder(t), 'stale');
  await leaveStaleSocket(t, file);
  const accepted = deferred<Link>();
  await listen(t, `unix-listen:${file}`, { onLink: (link) => accepted.resolve(link) });
  await dial(t, `unix-connect:${file}`);
  (await accepted.promise).destroy();
  t.pass();
});

test('a socket file whose listener is too busy to answer is not stolen', async (t) => {
  const file = join(temporaryFolder(t), 'busy');
  const child = await listener(t, file, 1);
  child.kill('SIGSTOP');
  const fill = async () => {
    for (;;) await dial(t, `unix-connect:${file}`);
  };
  await rejects(t, fill(), 'channel-busy', 'too many wait');
  await rejects(t, listen(t, `unix-listen:${file}`), 'address-in-use', 'it is taken by ');
});

test('a file that is no socket is neither replaced nor removed', async (t) => {
  const file = join(temporaryFolder(t), 'notes');
  writeFileSync(file, 'precious');
  await rejects(t, listen(t, `unix-listen:${file}`), 'address-in-use', 'not a socket');
  t.is(readFileSync(file, 'utf8'), 'precious');
});

test('a symbolic link is not followed', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'notes'), 'precious');
  symlinkSync('notes', join(folder, 'link'));
  await rejects(t, listen(t, `unix-listen:${folder}/link`), 'address-in-use', 'not a socket');
});

test('an address that is taken, or cannot be had, has a code each', async (t) => {
  const folder = temporaryFolder(t);
  const { description } = await listen(t, 'tcp-listen:127.0.0.1:0');
  await listen(t, `unix-listen:${folder}/live`);
  await rejects(t, listen(t, description), 'address-in-use', '127.0.0.1:');
  await rejects(t, listen(t, `unix-listen:${folder}/live`), 'address-in-use', 'it is taken by this process');
  await dial(t, `unix-connect:${folder}/live`);
  await rejects(t, listen(t, 'tcp-listen:192.0.2.1:0'), 'address-unavailable', '192.0.2.1');
  await rejects(t, listen(t, `unix-listen:${folder}/none/c`), 'address-unavailable', 'the folder');
});

test('closing a listener removes its socket file and leaves its links', async (t) => {
  const file = join(temporaryFolder(t), 'channel.sock');
  const accepted = deferred<Link>();
  const listening = await listen(t, `unix-listen:${file}`, { onLink: (link) => accepted.resolve(link) });
  const dialled = await dial(t, `unix-connect:${file}`);
  const link = await accepted.promise;
  t.teardown(() => link.destroy());
  await listening.close();
  t.false(existsSync(file));
  const recorder = record(link);
  dialled.write(Buffer.from('still here'));
  await recorder.received(10);
  t.is(String(recorder.bytes), 'still here');
  t.is(dialled.description, `unix-connect:${file}`);
});

test('descriptions name the kind, the port that was picked, and who connected', async (t) => {
  const accepted = deferred<Link>();
  const { description } = await listen(t, 'tcp-listen:127.0.0.1:0', { onLink: (link) => accepted.resolve(link) });
  t.regex(description, /^tcp-listen:127\.0\.0\.1:[1-9]\d*$/);
  const dialled = await dial(t, description.replace('listen', 'connect'));
  t.is(dialled.description, description.replace('listen', 'connect'));
  const link = await accepted.promise;
  t.teardown(() => link.destroy());
  t.regex(link.description, /^tcp-listen:127\.0\.0\.1:\d+ from 127\.0\.0\.1:\d+$/);
});

test('which listeners are private', (t) => {
  const isPrivate = (text: string): boolean => {
    const { kind, address } = parseChannel(text);
    return kind.mode === 'listen' && kind.isPrivate(address);
  };
  t.true(isPrivate('unix-listen:/a'));
  for (const host of ['127.0.0.1', '127.9.9.9', 'localhost', '[::1]', '[0:0:0:0:0:0:0:1]'])
    t.true(isPrivate(`tcp-listen:${host}:0`), host);
  for (const host of ['0.0.0.0', '[::]', '10.0.0.1', '128.0.0.1', 'localhost.example.com'])
    t.false(isPrivate(`tcp-listen:${host}:0`), host);
});

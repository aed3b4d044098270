import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import { VproxyError } from '../../lib/errors.js';
import type { Link } from '../../lib/link/link.js';
import { deferred } from '../../lib/util/concurrency.js';
import { dial, listen, makeFolder, openTcpPair, openUnixPair, patiently } from '../helpers/channel-pair.js';
import { freePort } from '../helpers/ports.js';
import { eventually } from '../helpers/time.js';

async function rejects(t: ExecutionContext, attempt: Promise<unknown>, code: string, retry: boolean, says: string) {
  const error = await t.throwsAsync(attempt, { instanceOf: VproxyError, code });
  t.is(error.row.retry, retry);
  t.true(error.message.includes(says), error.message);
  t.false(error.message.includes('\n'));
}

/** A socket file whose listener died without removing it. */
async function leaveStaleSocket(file: string): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(file)}, () => console.log('up'))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
}

test('dialling a path that does not exist is channel-missing', async (t) => {
  const file = path.join(await makeFolder(t), 'none');
  await rejects(t, dial(t, `unix-connect:${file}`), 'channel-missing', true, file);
});

test('dialling a socket file on which nobody answers is channel-refused', async (t) => {
  const file = path.join(await makeFolder(t), 'stale');
  await leaveStaleSocket(file);
  await rejects(t, dial(t, `unix-connect:${file}`), 'channel-refused', true, file);
});

test('a symbolic link to a socket is followed but where it may not be, and errors are the same there', async (t) => {
  const folder = await makeFolder(t);
  const at = (name: string): string => path.join(folder, name);
  let accepted = 0;
  await listen(t, `unix-listen:${at('socket')}`, {
    onLink: (link) => {
      accepted += 1;
      link.destroy();
    },
  });
  const own = { ...patiently(), followsLinks: false };
  await fs.symlink('socket', at('link'));
  await fs.writeFile(at('regular'), '');
  await leaveStaleSocket(at('stale'));
  await dial(t, `unix-connect:${at('link')}`);
  await dial(t, `unix-connect:${at('socket')}`, own);
  await rejects(t, dial(t, `unix-connect:${at('link')}`, own), 'channel-unusable', false, 'a symbolic link');
  await rejects(t, dial(t, `unix-connect:${at('regular')}`, own), 'channel-unusable', false, 'not a socket');
  await rejects(t, dial(t, `unix-connect:${at('none')}`, own), 'channel-missing', true, at('none'));
  await rejects(t, dial(t, `unix-connect:${at('stale')}`, own), 'channel-refused', true, at('stale'));
  // Behind these another one is accepted for certain.
  await dial(t, `unix-connect:${at('socket')}`);
  await eventually(() => accepted === 3, { what: 'the third' });
});

test('dialling a regular file is channel-unusable', async (t) => {
  const file = path.join(await makeFolder(t), 'regular');
  await fs.writeFile(file, '');
  await rejects(t, dial(t, `unix-connect:${file}`), 'channel-unusable', false, 'not a socket');
});

test('dialling a TCP port on which nobody listens is channel-refused', async (t) => {
  await rejects(t, dial(t, `tcp-connect:127.0.0.1:${await freePort()}`), 'channel-refused', true, '127.0.0.1:');
});

test('dialling that is given up rejects with shutdown, before and meanwhile', async (t) => {
  const aborted = { ...patiently(), signal: AbortSignal.abort() };
  await rejects(t, dial(t, 'tcp-connect:127.0.0.1:1', aborted), 'shutdown', true, 'given up');
  const abort = new AbortController();
  const { listener } = await openTcpPair(t);
  const attempt = dial(t, listener.description.replace('listen', 'connect'), { ...patiently(), signal: abort.signal });
  abort.abort();
  await rejects(t, attempt, 'shutdown', true, 'given up');
});

test.serial('a socket file has the mode 0600, and the umask stays as it was', async (t) => {
  const file = path.join(await makeFolder(t), 'channel.sock');
  const before = path.join(path.dirname(file), 'before');
  await fs.writeFile(before, '', { mode: 0o666 });
  const mode = (await fs.stat(before)).mode & 0o777;
  await listen(t, `unix-listen:${file}`);
  t.is((await fs.stat(file)).mode & 0o777, 0o600);
  const other = path.join(path.dirname(file), 'other');
  await fs.writeFile(other, '', { mode: 0o666 });
  t.is((await fs.stat(other)).mode & 0o777, mode);
});

test('a socket file has the mode 0600 before anybody can connect', async (t) => {
  const file = path.join(await makeFolder(t), 'channel.sock');
  const modes: number[] = [];
  const { kind, address } = parseChannel(`unix-listen:${file}`);
  if (kind.mode !== 'listen') return t.fail();
  const opening = kind.listen(address, { onLink: () => undefined, onFailed: () => undefined });
  while (modes.length === 0) {
    await Promise.resolve();
    await new Promise((resolve) => setImmediate(resolve));
    modes.push(
      ...(await fs
        .stat(file)
        .then(({ mode }) => [mode & 0o777])
        .catch(() => [])),
    );
  }
  t.is(modes[0], 0o600);
  await (await opening).close();
});

test('a stale socket file is replaced', async (t) => {
  const file = path.join(await makeFolder(t), 'stale');
  await leaveStaleSocket(file);
  const accepted = deferred<Link>();
  await listen(t, `unix-listen:${file}`, { onLink: (link) => accepted.resolve(link) });
  await dial(t, `unix-connect:${file}`);
  (await accepted.promise).destroy();
  t.pass();
});

test('a socket file on which somebody answers is not stolen', async (t) => {
  const file = path.join(await makeFolder(t), 'live');
  await listen(t, `unix-listen:${file}`);
  await rejects(t, listen(t, `unix-listen:${file}`), 'address-in-use', false, 'it is taken by this process');
  await dial(t, `unix-connect:${file}`);
});

test('a socket file whose listener is too busy to answer is not stolen', async (t) => {
  const file = path.join(await makeFolder(t), 'busy');
  const script = `require('net').createServer().listen({ path: ${JSON.stringify(file)}, backlog: 1 }, () => console.log('up'))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'ignore'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  child.kill('SIGSTOP');
  const fill = async () => {
    for (;;) await dial(t, `unix-connect:${file}`);
  };
  await rejects(t, fill(), 'channel-busy', true, 'too many wait');
  await rejects(t, listen(t, `unix-listen:${file}`), 'address-in-use', false, 'it is taken by ');
});

test('a file that is no socket is neither replaced nor removed', async (t) => {
  const file = path.join(await makeFolder(t), 'notes');
  await fs.writeFile(file, 'precious');
  await rejects(t, listen(t, `unix-listen:${file}`), 'address-in-use', false, 'not a socket');
  t.is(await fs.readFile(file, 'utf8'), 'precious');
});

test('a symbolic link is not followed', async (t) => {
  const folder = await makeFolder(t);
  await fs.writeFile(path.join(folder, 'notes'), 'precious');
  await fs.symlink('notes', path.join(folder, 'link'));
  await rejects(t, listen(t, `unix-listen:${path.join(folder, 'link')}`), 'address-in-use', false, 'not a socket');
});

test('a socket file in a folder that does not exist is address-unavailable', async (t) => {
  const file = path.join(await makeFolder(t), 'none', 'channel.sock');
  await rejects(t, listen(t, `unix-listen:${file}`), 'address-unavailable', false, 'the folder');
});

test('closing a listener removes its socket file and leaves its links', async (t) => {
  const { dialled, accepted, listener } = await openUnixPair(t);
  const file = listener.description.replace('unix-listen:', '');
  await listener.close();
  await t.throwsAsync(fs.stat(file), { code: 'ENOENT' });
  const arrived = deferred<string>();
  accepted.start({
    onBytes(bytes) {
      arrived.resolve(bytes.toString());
      return false;
    },
    onDrain: () => undefined,
    onClosed: () => undefined,
  });
  dialled.write(Buffer.from('still here'));
  t.is(await arrived.promise, 'still here');
});

test('a port that is taken is address-in-use', async (t) => {
  const { listener } = await openTcpPair(t);
  await rejects(t, listen(t, listener.description), 'address-in-use', false, '127.0.0.1:');
});

test('an address that is not of this machine is address-unavailable', async (t) => {
  await rejects(t, listen(t, 'tcp-listen:192.0.2.1:0'), 'address-unavailable', false, '192.0.2.1');
});

test('descriptions name the kind, the port that was picked, and who connected', async (t) => {
  const { dialled, accepted, listener } = await openTcpPair(t);
  t.regex(listener.description, /^tcp-listen:127\.0\.0\.1:[1-9]\d*$/);
  t.is(dialled.description, listener.description.replace('listen', 'connect'));
  t.regex(accepted.description, /^tcp-listen:127\.0\.0\.1:\d+ from 127\.0\.0\.1:\d+$/);
  const unix = await openUnixPair(t);
  t.regex(unix.dialled.description, /^unix-connect:\/.*\/channel\.sock$/);
});

const isPrivate = test.macro({
  title: (_, text: string, expected: boolean) => `${text} is ${expected ? 'private' : 'open to others'}`,
  exec(t, text: string, expected: boolean) {
    const { kind, address } = parseChannel(text);
    t.is(kind.mode === 'listen' && kind.isPrivate(address), expected);
  },
});
test(isPrivate, 'unix-listen:/a', true);
test(isPrivate, 'tcp-listen:127.0.0.1:0', true);
test(isPrivate, 'tcp-listen:127.9.9.9:0', true);
test(isPrivate, 'tcp-listen:localhost:0', true);
test(isPrivate, 'tcp-listen:[::1]:0', true);
test(isPrivate, 'tcp-listen:[0:0:0:0:0:0:0:1]:0', true);
test(isPrivate, 'tcp-listen:0.0.0.0:0', false);
test(isPrivate, 'tcp-listen:[::]:0', false);
test(isPrivate, 'tcp-listen:10.0.0.1:0', false);
test(isPrivate, 'tcp-listen:128.0.0.1:0', false);
test(isPrivate, 'tcp-listen:localhost.example.com:0', false);

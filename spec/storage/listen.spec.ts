/** Where a broker listens, and what it finds there. */
import { spawn } from 'node:child_process';
import { lstat, stat, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { listenForWrappers, StorageBroker } from '../../lib/storage/broker.js';
import { storageSocketPaths } from '../../lib/storage/storage-paths.js';
import { temporaryFolder } from '../helpers/files.js';

function brokerOf(t: ExecutionContext): StorageBroker {
  const broker = new StorageBroker();
  t.teardown(() => broker.close());
  return broker;
}

/** Leaves the file of a socket whose process is dead. */
async function leaveStaleSocket(path: string): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  const child = spawn(process.execPath, ['-e', script]);
  await new Promise((resolve) => child.once('exit', resolve));
}

test('the socket is for its owner only, and its folder is made', async (t) => {
  const path = join(temporaryFolder(t), 'a', 'b', 'storage.sock');
  await brokerOf(t).listen(path);
  t.is((await stat(path)).mode & 0o777, 0o600);
  t.is((await stat(join(path, '..'))).mode & 0o777, 0o700);
});

test('the file of a dead socket is replaced, and removed at the end', async (t) => {
  const path = join(temporaryFolder(t), 'storage.sock');
  await leaveStaleSocket(path);
  t.true((await lstat(path)).isSocket());
  const broker = brokerOf(t);
  await broker.listen(path);
  const socket = createConnection(path);
  await t.notThrowsAsync(new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject)));
  socket.destroy();
  await broker.close();
  await t.throwsAsync(lstat(path), { code: 'ENOENT' });
});

test('a socket on which somebody answers is left alone', async (t) => {
  const path = join(temporaryFolder(t), 'storage.sock');
  await brokerOf(t).listen(path);
  await t.throwsAsync(brokerOf(t).listen(path), {
    code: 'address-in-use',
    message: `cannot listen on ${path}: it is taken by this process`,
  });
});

test('a file that is no socket is left alone', async (t) => {
  const path = join(temporaryFolder(t), 'storage.sock');
  await writeFile(path, 'precious');
  await t.throwsAsync(brokerOf(t).listen(path), { code: 'address-in-use' });
  t.true((await lstat(path)).isFile());
});

test('a path that cannot be a socket is refused with the reason', async (t) => {
  const folder = temporaryFolder(t);
  await writeFile(join(folder, 'file'), '');
  await t.throwsAsync(brokerOf(t).listen(join(folder, 'file', 'x.sock')), { code: 'address-unavailable' });
  await t.throwsAsync(brokerOf(t).listen(join(folder, 'x'.repeat(120))), {
    code: 'address-unavailable',
    message: /at most 107 bytes, not \d+/,
  });
});

test('the default paths come from the environment', (t) => {
  t.deepEqual(storageSocketPaths({}), ['/run/vproxy/storage.sock']);
  t.deepEqual(storageSocketPaths({ runtimeDir: '/run/user/7' }), [
    '/run/vproxy/storage.sock',
    '/run/user/7/vproxy/storage.sock',
  ]);
  t.deepEqual(storageSocketPaths({ runtimeDir: 'relative' }), ['/run/vproxy/storage.sock']);
  t.deepEqual(storageSocketPaths({ socketPath: '/a', runtimeDir: '/run/user/7' }), ['/a']);
  t.deepEqual(storageSocketPaths({ socketPath: '' }), ['/run/vproxy/storage.sock']);
});

test('of the default paths the first that can be had is taken, none is a warning, an explicit one an error', async (t) => {
  const folder = temporaryFolder(t);
  await writeFile(join(folder, 'file'), '');
  const [impossible, possible] = [join(folder, 'file', 'storage.sock'), join(folder, 'storage.sock')];
  t.deepEqual(await listenForWrappers(brokerOf(t), undefined, [impossible, possible]), { path: possible });
  const warned = async (...paths: string[]) => {
    const listening = await listenForWrappers(brokerOf(t), undefined, paths);
    return 'warning' in listening && listening.warning.code;
  };
  t.is(await warned(impossible), 'address-unavailable');
  t.is(
    await warned(possible, join(folder, 'other.sock')),
    'address-in-use',
    'one with another broker is not passed over',
  );
  await t.throwsAsync(listenForWrappers(brokerOf(t), impossible, [join(folder, 'x')]), { code: 'address-unavailable' });
});

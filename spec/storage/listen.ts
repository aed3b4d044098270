/** The sockets that a broker listens on. */
import { lstatSync, statSync, writeFileSync } from 'node:fs';
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

test('the socket is private to its owner, its folder is created, and it is removed at the end', async (t) => {
  const path = join(temporaryFolder(t), 'a', 'b', 'storage.sock');
  const broker = brokerOf(t);
  await broker.listen(path);
  const modes = [path, join(path, '..')].map((file) => (statSync(file).mode & 0o777).toString(8));
  t.deepEqual(modes, ['600', '700']);
  await broker.close();
  t.throws(() => lstatSync(path), { code: 'ENOENT' });
});

test('a socket in use, a file that is not a socket, and an invalid path are refused', async (t) => {
  const folder = temporaryFolder(t);
  const [taken, file] = [join(folder, 'storage.sock'), join(folder, 'file')];
  await brokerOf(t).listen(taken);
  writeFileSync(file, 'precious');
  for (const [path, code, message] of [
    [taken, 'address-in-use', `cannot listen on ${taken}: already in use by this process`],
    [file, 'address-in-use', undefined],
    [join(file, 'x.sock'), 'address-unavailable', undefined],
    [join(folder, 'x'.repeat(120)), 'address-unavailable', /path too long: \d+ bytes \(max 107\)/],
  ] as const)
    await t.throwsAsync(brokerOf(t).listen(path), message === undefined ? { code } : { code, message }, path);
  t.true(lstatSync(file).isFile());
});

test('the default paths come from the environment', (t) => {
  const [system, user] = ['/run/vproxy/storage.sock', '/run/user/7/vproxy/storage.sock'];
  for (const [environment, ...paths] of [
    [{}, system],
    [{ runtimeDir: '/run/user/7' }, system, user],
    [{ runtimeDir: 'relative' }, system],
    [{ socketPath: '/a', runtimeDir: '/run/user/7' }, '/a'],
    [{ socketPath: '' }, system],
  ] as const)
    t.deepEqual(storageSocketPaths(environment), paths);
});

test('the first available default path is used; none is a warning, an unavailable explicit path an error', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'file'), '');
  const [impossible, possible, other] = ['file/storage.sock', 'storage.sock', 'other.sock'].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  const listen = (...paths: string[]) => listenForWrappers(brokerOf(t), undefined, paths);
  t.deepEqual(await listen(impossible, possible), { path: possible });
  t.like(await listen(impossible), { warning: { code: 'address-unavailable' } });
  t.like(await listen(possible, other), { warning: { code: 'address-in-use' } }, 'another broker is not passed over');
  await t.throwsAsync(listenForWrappers(brokerOf(t), impossible, [other]), { code: 'address-unavailable' });
});

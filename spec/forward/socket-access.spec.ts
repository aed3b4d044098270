import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { lstatSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { listen } from '../../lib/util/listen.js';
import { resolveSocketAccess } from '../../lib/util/socket-access.js';
import { TestProxy } from '../helpers/proxies.js';
import { temporaryFolder } from '../helpers/temp-folder.js';

const isRoot = process.getuid?.() === 0;

test('a unix socket of an -o has the mode, the user and the group that were asked for', async (t) => {
  const folder = temporaryFolder(t);
  const owner = isRoot ? ',user=daemon,group=daemon' : '';
  const proxy = new TestProxy(t, `unix-listen:${join(folder, 'channel')}`, {
    outgoing: [`a:${join(folder, 'a')},mode=0660${owner}`, `b:unix:${join(folder, 'b')}`, `c:${join(folder, 'c,,c')}`],
  });
  await proxy.start();
  t.is(lstatSync(join(folder, 'a')).mode & 0o777, 0o660);
  t.is(lstatSync(join(folder, 'b')).mode & 0o777, 0o600);
  t.is(lstatSync(join(folder, 'c,c')).mode & 0o777, 0o600);
  if (!isRoot) return;
  const daemon = (option: string) => Number(spawnSync('id', [option, 'daemon']).stdout.toString());
  t.is(lstatSync(join(folder, 'a')).uid, daemon('-u'));
  t.is(lstatSync(join(folder, 'a')).gid, daemon('-g'));
  t.is(lstatSync(join(folder, 'b')).uid, 0);
});

test('a user or a group that is not known is a bad argument, before anything listens', (t) => {
  const path = join(temporaryFolder(t), 'x');
  for (const [option, message] of [
    ['user=no-such-user', /there is no user "no-such-user" in \/etc\/passwd/],
    ['group=no-such-group', /there is no group "no-such-group" in \/etc\/group/],
  ] as const) {
    t.throws(() => new TestProxy(t, `unix-listen:${path}`, { outgoing: [`a:${path},${option}`] }), {
      code: 'bad-argument',
      message,
    });
  }
});

test('a socket that may not be given away is not left behind, nor listened on', async (t) => {
  if (isRoot) {
    t.pass('root may give everything away');
    return;
  }
  const path = join(temporaryFolder(t), 'x');
  const server = net.createServer();
  await t.throwsAsync(listen(server, { path, access: resolveSocketAccess({ user: '0' }) }), { code: 'address-denied' });
  t.is(lstatSync(path, { throwIfNoEntry: false }), undefined);
});

test('at no moment is a socket file more open than was asked for', async (t) => {
  const folder = temporaryFolder(t);
  for (const mode of [0o600, 0o660, 0o620, 0o400]) {
    const path = join(folder, mode.toString(8));
    const server = net.createServer();
    const watched = new Set<number>();
    const listenNow = server.listen.bind(server);
    server.listen = ((...args: []) => {
      const result = listenNow(...args);
      watched.add(lstatSync(path).mode & 0o077);
      return result;
    }) as typeof server.listen;
    await listen(server, { path, access: { mode, uid: -1, gid: -1 } });
    t.deepEqual([...watched], [0], 'nobody but the owner when it is made');
    t.is(lstatSync(path).mode & 0o777, mode);
    const closed = once(server, 'close');
    server.close();
    await closed;
  }
});

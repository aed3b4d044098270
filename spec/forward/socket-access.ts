import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, lstatSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { resolveSocketAccess } from '../../lib/system/sockets/listen-address.js';
import { listen } from '../../lib/system/sockets/listening.js';
import { temporaryFolder } from '../helpers/files.js';
import { TestProxy } from '../helpers/proxies.js';
import { testWith } from '../helpers/test-with.js';

const isRoot = process.getuid?.() === 0;

const testAsRoot = testWith('root');
const testAsUser = isRoot ? test.skip : test;

test('a unix socket of an -o has the requested mode', async (t) => {
  const folder = temporaryFolder(t);
  const proxy = new TestProxy(t, `unix-listen:${join(folder, 'channel')}`, {
    outgoing: [`a:${join(folder, 'a')},mode=0660`, `b:unix:${join(folder, 'b')}`, `c:${join(folder, 'c,,c')}`],
  });
  await proxy.start();
  t.is(lstatSync(join(folder, 'a')).mode & 0o777, 0o660);
  t.is(lstatSync(join(folder, 'b')).mode & 0o777, 0o600);
  t.is(lstatSync(join(folder, 'c,c')).mode & 0o777, 0o600);
});

testAsRoot('a unix socket of an -o has the requested user and group', async (t) => {
  const path = join(temporaryFolder(t), 'a');
  const access = ',mode=0660,user=daemon,group=daemon';
  const proxy = new TestProxy(t, `unix-listen:${path}-channel`, {
    outgoing: [`a:${path}${access}`, `b:unix:${path}-b`],
  });
  await proxy.start();
  const daemon = (option: string) => Number(spawnSync('id', [option, 'daemon']).stdout.toString());
  const { uid, gid, mode } = lstatSync(path);
  t.deepEqual({ uid, gid, mode: mode & 0o777 }, { uid: daemon('-u'), gid: daemon('-g'), mode: 0o660 });
  t.is(lstatSync(`${path}-b`).uid, 0);
});

test('an unknown user or group is a bad argument, and nothing listens', async (t) => {
  const path = join(temporaryFolder(t), 'x');
  for (const [option, message] of [
    ['user=no-such-user', /no user "no-such-user"/],
    ['group=no-such-group', /no group "no-such-group"/],
    ['user=-x', /no user "-x"/],
  ] as const) {
    for (const kind of ['unix', 'unixgram']) {
      const { proxy } = new TestProxy(t, `unix-listen:${path}`, { outgoing: [`a:${kind}:${path}-${kind},${option}`] });
      await t.throwsAsync(proxy.start(), { code: 'bad-argument', message });
      t.is(lstatSync(path, { throwIfNoEntry: false }), undefined);
    }
  }
});

// Root may change any owner.
testAsUser('a socket whose owner may not be changed is neither left behind nor listened on', async (t) => {
  const path = join(temporaryFolder(t), 'x');
  const server = net.createServer();
  const access = await resolveSocketAccess({ user: '0' });
  await t.throwsAsync(listen(server, { path, access }), { code: 'address-denied' });
  t.is(lstatSync(path, { throwIfNoEntry: false }), undefined);
});

/** Calls back after a socket file was created and before it has its mode. */
function whenBound(server: net.Server, callback: () => void): void {
  const listenNow = server.listen.bind(server);
  server.listen = ((...args: []) => {
    const result = listenNow(...args);
    callback();
    return result;
  }) as typeof server.listen;
}

for (const link of ['symbolic', 'hard'])
  test(`a ${link} link put in place of the socket gets neither its mode nor its owner`, async (t) => {
    const folder = temporaryFolder(t);
    const [path, victim] = [join(folder, 'x'), join(folder, 'victim')];
    writeFileSync(victim, 'a secret', { mode: 0o600 });
    const before = lstatSync(victim);
    const server = net.createServer();
    // The folder's owner could do this.
    whenBound(server, () => {
      unlinkSync(path);
      if (link === 'hard') linkSync(victim, path);
      else symlinkSync(victim, path);
    });
    const access = { mode: 0o666, uid: isRoot ? 1 : -1, gid: -1 };
    await t.throwsAsync(listen(server, { path, access }), {
      code: 'address-unavailable',
      message: /the socket was replaced by another file/,
    });
    t.false(server.listening);
    const { mode, uid } = lstatSync(victim);
    t.deepEqual({ mode, uid }, { mode: before.mode, uid: before.uid });
  });

test('at no moment is a socket file more accessible than requested', async (t) => {
  const folder = temporaryFolder(t);
  for (const mode of [0o600, 0o660, 0o620, 0o400]) {
    const path = join(folder, mode.toString(8));
    const server = net.createServer();
    const watched = new Set<number>();
    whenBound(server, () => watched.add(lstatSync(path).mode & 0o077));
    await listen(server, { path, access: { mode, uid: -1, gid: -1 } });
    t.deepEqual([...watched], [0], 'nobody but the owner when it is made');
    t.is(lstatSync(path).mode & 0o777, mode);
    const closed = once(server, 'close');
    server.close();
    await closed;
  }
});

/** Channels with keys and with TLS, from files. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Proxy } from '../../lib/proxy/proxy.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { echo, localServer, localSocket, readToEnd, TestProxy } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

async function echoThrough(t: ExecutionContext, port: number): Promise<string> {
  const socket = localSocket(t, { host: '127.0.0.1', port });
  const answer = readToEnd(socket);
  socket.end('hello');
  return (await answer).toString();
}

for (const [what, options] of [
  ['a key', ''],
  ['a key and TLS with it', ',tls=psk'],
] as const) {
  test(`two sides with ${what} in common carry streams; a stranger does not get in, nor end their session`, async (t) => {
    const folder = temporaryFolder(t);
    const [own, other] = [writeKeyFile(folder, 'own.key', '1f'), writeKeyFile(folder, 'other.key', '2e')];
    const path = join(folder, 'channel.sock');
    const target = await localServer(t, echo);
    const host = new TestProxy(t, `unix-listen:${path}${options}`, {
      keyFiles: [own],
      incoming: [`echo:${target.port}`],
    });
    await host.start();
    const guest = new TestProxy(t, `unix-connect:${path}${options}`, { keyFiles: [own], outgoing: ['echo:0'] });
    await guest.start();
    await guest.event('session-established');
    t.is(await echoThrough(t, guest.port('echo')), 'hello');
    for (const setup of [{ keyFiles: [other] }, {}]) {
      const strange = new TestProxy(t, `unix-connect:${path}${setup.keyFiles === undefined ? '' : options}`, setup);
      await strange.start();
      t.is((await strange.event('session-ended')).fields['code'], 'auth-failed');
      await strange.proxy.stop();
    }
    t.is(host.proxy.channel('default').history.sessions, 1);
    t.is(await echoThrough(t, guest.port('echo')), 'hello');
    for (const event of [...host.events, ...guest.events]) t.false(JSON.stringify(event).includes('1f1f1f1f'));
    t.false(JSON.stringify([host.proxy.listChannels(), host.proxy.options]).includes('1f1f1f1f'));
  });
}

test('a key is rotated without a break: both first know the new one too, then only the new one', async (t) => {
  const folder = temporaryFolder(t);
  const files = ['host', 'guest'].map((side) => [
    writeKeyFile(folder, `${side}-1.key`, '1f'),
    writeKeyFile(folder, `${side}-2.key`, '1f'),
  ]) as [string[], string[]];
  const path = join(folder, 'channel.sock');
  const host = new TestProxy(t, `unix-listen:${path}`, { keyFiles: files[0] });
  const guest = new TestProxy(t, `unix-connect:${path}`, { keyFiles: files[1] });
  await host.start();
  await guest.start();
  await guest.event('session-established');
  for (const [index, first] of [
    [1, host],
    [1, guest],
    [0, host],
    [0, guest],
  ] as const) {
    const side = first === host ? 'host' : 'guest';
    writeKeyFile(folder, `${side}-${index + 1}.key`, '2e');
    first.proxy.reloadKeys();
    t.is(guest.proxy.channel('default').state, 'established');
  }
  t.is(guest.proxy.channel('default').history.sessions, 1);
  await host.proxy.stop();
  const again = new TestProxy(t, `unix-listen:${path}`, { keyFiles: [writeKeyFile(folder, 'new.key', '2e')] });
  await again.start();
  guest.proxy.retryNow();
  await eventually(() => guest.proxy.channel('default').history.sessions === 2);
});

test('a key file that others can read, or that is none, is refused by its name', (t) => {
  const folder = temporaryFolder(t);
  const make =
    (...keyFiles: string[]) =>
    () =>
      new Proxy({ channels: [{ address: 'unix-connect:/nowhere', keyFiles }], agent: 'test' });
  t.throws(make(writeKeyFile(folder, 'open.key', '1f', 0o644)), {
    code: 'bad-file',
    message: /open\.key: others can read or change it \(mode 0644\); chmod 600 it$/,
  });
  writeFileSync(join(folder, 'short.key'), '1f1f1f', { mode: 0o600 });
  t.throws(make(join(folder, 'short.key')), {
    code: 'bad-file',
    message: /short\.key: a key is 64 hex digits and a newline$/,
  });
  t.throws(make(join(folder, 'missing.key')), { code: 'bad-file', message: /missing\.key: .*no such file/ });
  t.throws(make(folder), { code: 'bad-file', message: /it is no file$/ });
  t.notThrows(make(writeKeyFile(folder, 'good.key', '1f')));
});

test('a channel with tls=psk needs a key, and one with tls=cert its files', (t) => {
  const make = (address: string) => () => new Proxy({ channels: [{ address }], agent: 'test' });
  t.throws(make('unix-connect:/x,tls=psk'), { code: 'bad-argument', message: /tls=psk needs a key/ });
  t.throws(make('unix-connect:/x,tls=cert,ca=/a,key=/k'), { code: 'bad-argument', message: /tls=cert without cert=/ });
  t.throws(make('unix-connect:/x,ca=/a'), { code: 'bad-argument', message: /ca= without tls=cert/ });
  t.throws(make('unix-connect:/x,tls=on'), { code: 'bad-argument', message: /psk or cert/ });
  t.notThrows(make('tcp-listen:0.0.0.0:0,tls=cert,ca=/a,cert=/c,key=/k'), 'TLS makes up for --insecure');
  t.throws(make('tcp-listen:0.0.0.0:0'), { code: 'bad-argument', message: /needs TLS .* or --insecure/ });
});

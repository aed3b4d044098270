/** Rules of services on channels and groups, and what can change of a channel while its session goes on. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { type ChannelPolicies, resolvePolicy } from '../../lib/proxy/channel-options.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import {
  connectedProxies,
  echo,
  failureOf,
  localServer,
  localSocket,
  readToEnd,
  TestProxy,
} from '../helpers/proxies.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { eventually } from '../helpers/time.js';

async function ask(t: ExecutionContext, address: { port: number; host: string } | { path: string }): Promise<string> {
  const socket = localSocket(t, address);
  const answer = readToEnd(socket);
  socket.end('hello');
  return (await answer).toString();
}

/** A host that offers `echo` by these rules to a guest. */
async function setUp(t: ExecutionContext, policies: ChannelPolicies) {
  const path = join(temporaryFolder(t), 'channel.sock');
  const target = await localServer(t, echo);
  const incoming = [`echo:${target.port}`];
  const { a: host, b: guest } = await connectedProxies(
    t,
    path,
    { incoming, label: 'vm1', policies },
    { outgoing: ['echo:0'] },
  );
  const forwards = incoming.map((text) => parseForwardSpec('incoming', text));
  const own = { label: 'vm1', address: `unix-listen:${path}`, name: 'a', forwards };
  const address = { host: '127.0.0.1', port: guest.port('echo') };
  return { host, guest, own, address };
}

test('a rule that names channels is for these, by their label or by their group’s', (t) => {
  const rule = { channels: ['vm1', 'vms'], streams: 3 };
  t.deepEqual(resolvePolicy(rule, 'vm1', null), { streams: 3 });
  t.deepEqual(resolvePolicy(rule, 'vm7', 'vms'), { streams: 3 });
  t.deepEqual(resolvePolicy(rule, 'vm2', 'others'), { streams: 3, isAllowed: false });
  t.deepEqual(resolvePolicy({ channels: [] }, 'vm1', null), { isAllowed: false });
  t.deepEqual(resolvePolicy({ streams: 1 }, 'vm1', null), { streams: 1 });
});

test('other rules are in force at once, and neither the session nor a stream ends for it', async (t) => {
  const { host, guest, own, address } = await setUp(t, { echo: { streams: 5 } });
  const kept = localSocket(t, address);
  const answer = readToEnd(kept);
  kept.write('a');
  await eventually(() => host.proxy.listStreams().length === 1);
  const changes = await host.proxy.apply([{ ...own, policies: { echo: { channels: ['vm2'] }, web: { streams: 1 } } }]);
  t.deepEqual(changes.changedPolicies, ['vm1/echo', 'vm1/web']);
  t.is((await failureOf(localSocket(t, address))).code, 'ECONNRESET');
  t.like((await host.event('stream-denied')).fields, { service: 'echo', channel: 'vm1' });
  t.deepEqual(host.proxy.options[0]?.policies, { echo: { channels: ['vm2'] }, web: { streams: 1 } });

  t.deepEqual((await host.proxy.apply([own])).changedPolicies, ['vm1/echo', 'vm1/web']);
  t.is(await ask(t, address), 'hello');
  kept.end('b');
  t.is((await answer).toString(), 'ab');
  t.is(guest.proxy.channel('default').history.sessions, 1);
});

test('a rule that stays keeps counting when another one changes', async (t) => {
  const { host, own, address } = await setUp(t, { echo: { opensPerSecond: 0.001 } });
  t.is(await ask(t, address), 'hello');
  const changes = await host.proxy.apply([{ ...own, policies: { echo: { opensPerSecond: 0.001 }, web: {} } }]);
  t.deepEqual(changes.changedPolicies, []);
  t.is((await failureOf(localSocket(t, address))).code, 'ECONNRESET');
});

test('a guest that opens streams in a loop, each with its first credit, gets no more through than the rate', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const bytesPerSecond = 1_000_000;
  const startedAtMs = performance.now();
  let received = 0;
  let mostExcess = Number.NEGATIVE_INFINITY;
  const target = await localServer(t, (socket) => {
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
      const seconds = (performance.now() - startedAtMs) / 1000;
      mostExcess = Math.max(mostExcess, received - 1.2 * bytesPerSecond * seconds);
    });
    socket.on('end', () => socket.end());
  });
  const policies = { sink: { bytesPerSecond } };
  const host = new TestProxy(t, `unix-listen:${path}`, { incoming: [`sink:${target.port}`], policies });
  await host.start();
  const peer = await SocketPeer.established(path);
  t.teardown(() => peer.close());
  const streams = 24;
  for (let index = 0; index < streams; index += 1) {
    const id = peer.highestId + 2;
    peer.sendOpen(id, 'sink');
    for (let sent = 0; sent < 65_536; sent += 16_384) peer.sendData(id, Buffer.alloc(16_384, 'x'));
    peer.send(FRAME_TYPE.FIN, id);
  }
  await eventually(() => received === streams * 65_536, { timeoutMs: 30_000, what: 'all bytes' });
  t.true(mostExcess <= 262_144, `${mostExcess}`);
  t.is(peer.fault, null);
  await eventually(() => host.proxy.listStreams().length === 0);
});

test('the rules of a group are those of its channels, also after a change', async (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'vms'));
  const target = await localServer(t, echo);
  const template = [{ direction: 'incoming', text: `echo:127.0.0.1:${target.port}` }] as const;
  const group = { label: 'vms', address: `unix-connect:${folder}/vms/*.sock`, template };
  const guests = new Map<string, TestProxy>();
  for (const vm of ['vm1', 'vm2']) {
    const guest = new TestProxy(t, `unix-listen:${folder}/vms/${vm}.sock`, { outgoing: ['echo:0'] });
    await guest.start();
    guests.set(vm, guest);
  }
  const host = new TestProxy(t, group.address, { ...group, policies: { echo: { channels: ['vm2'] } } });
  await host.start();
  const addressOf = (vm: string) => ({ host: '127.0.0.1', port: guests.get(vm)?.port('echo') ?? 0 });
  t.is((await failureOf(localSocket(t, addressOf('vm1')))).code, 'ECONNRESET');
  t.is(await ask(t, addressOf('vm2')), 'hello');

  const changes = await host.proxy.apply([{ ...group, policies: { echo: { channels: ['vms'] } } }]);
  t.deepEqual([...changes.changedPolicies].sort(), ['vm1/echo', 'vm2/echo']);
  t.is(await ask(t, addressOf('vm1')), 'hello');
  for (const guest of guests.values()) t.is(guest.proxy.channel('default').history.sessions, 1);
});

test('another key beside the first is taken without a break; the first key of all begins the channel anew', async (t) => {
  const folder = temporaryFolder(t);
  const [first, second] = [writeKeyFile(folder, 'first', '1f'), writeKeyFile(folder, 'second', '2e')];
  const path = join(folder, 'channel.sock');
  const { a: host, b: guest } = await connectedProxies(t, path, {}, {});
  const own = { address: `unix-listen:${path}`, name: 'a' };
  t.like(guest.proxy.channel('default').session, { key: null, tls: null });

  t.deepEqual((await host.proxy.apply([{ ...own, keyFiles: [first] }])).replacedChannels, ['default']);
  await guest.proxy.apply([{ address: `unix-connect:${path}`, name: 'b', keyFiles: [first] }]);
  const session = await eventually(() => guest.proxy.channel('default').session);
  await eventually(() => host.proxy.channel('default').session);
  t.regex(session.key ?? '', /^[0-9a-f]{8}$/);

  const changes = await host.proxy.apply([{ ...own, keyFiles: [second, first] }]);
  t.deepEqual(changes.replacedChannels, []);
  t.is(host.proxy.channel('default').history.sessions, 1);
  await guest.proxy.apply([{ address: `unix-connect:${path}`, name: 'b', keyFiles: [second] }]);
  t.is(guest.proxy.channel('default').session?.key, session.key);
  await guest.proxy.stop();
  const late = new TestProxy(t, `unix-connect:${path}`, { keyFiles: [second] });
  await late.start();
  await late.event('session-established');
});

test('a status says by which key a session is authenticated, and how it is encrypted', async (t) => {
  const folder = temporaryFolder(t);
  const keyFiles = [writeKeyFile(folder, 'key', '1f')];
  const path = join(folder, 'channel.sock');
  const host = new TestProxy(t, `unix-listen:${path},tls=psk`, { keyFiles });
  const guest = new TestProxy(t, `unix-connect:${path},tls=psk`, { keyFiles });
  await host.start();
  await guest.start();
  const session = await eventually(() => guest.proxy.channel('default').session);
  t.is(session.tls, 'psk');
  t.is(session.key, SecretKey.parse('1f'.repeat(32)).id);
});

test('two sides that have no key in common say so once, with what to do, and are auth-failed', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'channel.sock');
  const host = new TestProxy(t, `unix-listen:${path}`, { keyFiles: [writeKeyFile(folder, 'a', '1f')] });
  await host.start();
  for (const [keyFiles, says] of [
    [
      [writeKeyFile(folder, 'b', '2e')],
      /: no key in common: .*; give both sides the same key with --key FILE \(auth-failed\)$/,
    ],
    [
      [],
      /: the peer demands authentication and this side has no key; give this side the peer's key with --key FILE \(auth-failed\)$/,
    ],
  ] as const) {
    const guest = new TestProxy(t, `unix-connect:${path}`, { keyFiles });
    await guest.start();
    await eventually(() => (guest.proxy.channel('default').history.ends['auth-failed'] ?? 0) >= 3);
    const lines = guest.events.filter(({ event }) => event === 'session-ended');
    t.deepEqual([...new Set(lines.slice(1).map(({ level }) => level))], ['debug']);
    t.is(lines[0]?.level, 'warn');
    t.regex(lines[0]?.message ?? '', says);
    t.is(guest.proxy.channel('default').state, 'auth-failed');
    t.regex(guest.proxy.channel('default').detail ?? '', /--key FILE$/);
    await guest.proxy.stop();
  }
});

test('keys are read again: what is wrong is told, and the channel of that file keeps its keys', async (t) => {
  const folder = temporaryFolder(t);
  const [good, bad] = [writeKeyFile(folder, 'good', '1f'), writeKeyFile(folder, 'bad', '2e')];
  const path = join(folder, 'channel.sock');
  const host = new TestProxy(t, `unix-listen:${path}`, { keyFiles: [good, bad] });
  await host.start();
  writeKeyFile(folder, 'good', '3d');
  writeKeyFile(folder, 'bad', '2e', 0o644);
  const problems = host.proxy.reloadKeys();
  t.is(problems.length, 1);
  t.is(problems[0]?.code, 'bad-file');
  t.regex(problems[0]?.message ?? '', /bad: others can read or change it \(mode 0644\); chmod 600 it$/);
  const guest = new TestProxy(t, `unix-connect:${path}`, { keyFiles: [writeKeyFile(folder, 'old', '1f')] });
  await guest.start();
  await guest.event('session-established');
});

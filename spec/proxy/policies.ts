/** Service rules, keys and egresses of channels and groups, and how they change during a session. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type ChannelPolicies, resolvePolicy } from '../../lib/proxy/channel/channel-options.js';
import { findRefusal } from '../../lib/proxy/channel/check-channel.js';
import { type ChannelEgress, checkEgressEntry, resolveEgress } from '../../lib/proxy/egress/definitions.js';
import { parseEgressDestination, testEgress } from '../../lib/proxy/egress/test-egress.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { systemClock } from '../../lib/util/clock.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import {
  answerTo,
  ask,
  echo,
  endsInOrder,
  incoming,
  localServer,
  openEcho,
  proxyPair,
  refusal,
  startProxy,
  type TestProxy,
} from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

async function setUp(t: ExecutionContext, policies: ChannelPolicies) {
  const target = await localServer(t, echo);
  const served = [`echo:${target.port}`];
  const here = { incoming: served, label: 'vm1', policies };
  const { a: host, b: guest, path } = await proxyPair(t, { a: here, b: { outgoing: ['echo:0'] } });
  const own = { label: 'vm1', address: `unix-listen:${path}`, name: 'a', forwards: incoming(...served) };
  const changedBy = async (policies?: ChannelPolicies) =>
    (await host.proxy.apply([{ ...own, ...(policies && { policies }) }])).changedPolicies;
  return { host, guest, changedBy, port: guest.port('echo') };
}

test('a rule that names channels applies to these, by their label or by their group’s', (t) => {
  const rule = { channels: ['vm1', 'vms'], streams: 3 };
  t.deepEqual(resolvePolicy(rule, 'vm1', null), { streams: 3 });
  t.deepEqual(resolvePolicy(rule, 'vm7', 'vms'), { streams: 3 });
  t.deepEqual(resolvePolicy(rule, 'vm2', 'others'), { streams: 3, isAllowed: false });
  t.deepEqual(resolvePolicy({ channels: [] }, 'vm1', null), { isAllowed: false });
  t.deepEqual(resolvePolicy({ streams: 1 }, 'vm1', null), { streams: 1 });
});

test('new rules take effect at once, without ending the session or a stream', async (t) => {
  const { host, guest, changedBy, port } = await setUp(t, { echo: { streams: 5 } });
  const kept = await openEcho(t, port);
  const policies = { echo: { channels: ['vm2'] }, web: { streams: 1 } };
  t.deepEqual(await changedBy(policies), ['vm1/echo', 'vm1/web']);
  t.is(await refusal(t, port), 'ECONNRESET');
  t.like((await host.event('stream-denied')).fields, { service: 'echo', channel: 'vm1' });
  t.deepEqual(host.proxy.options[0]?.policies, policies);

  t.deepEqual(await changedBy(), ['vm1/echo', 'vm1/web']);
  t.is(await ask(t, port), 'hello');
  t.true(await endsInOrder(kept));
  t.is(guest.proxy.channel('default').history.sessions, 1);
});

test('an unchanged rule keeps its counts when another one changes', async (t) => {
  const { changedBy, port } = await setUp(t, { echo: { opensPerSecond: 0.001 } });
  t.is(await ask(t, port), 'hello');
  t.deepEqual(await changedBy({ echo: { opensPerSecond: 0.001 }, web: {} }), []);
  t.is(await refusal(t, port), 'ECONNRESET');
});

test('the rules of a group apply to its channels, also after a change, with the label of each', async (t) => {
  const folder = temporaryFolder(t);
  const target = await localServer(t, echo);
  const template = [{ direction: 'incoming', text: `echo:127.0.0.1:${target.port}` }] as const;
  const egress = { web: { allow: ['{channel}.internal:443'] } };
  const group = { label: 'vms', address: `unix-connect:${folder}/*.sock`, template, egress };
  const start = (label: string) => startProxy(t, `unix-listen:${folder}/${label}.sock`, { outgoing: ['echo:0'] });
  const [vm1, vm2] = [await start('vm1'), await start('vm2')];
  const host = await startProxy(t, group.address, { ...group, policies: { echo: { channels: ['vm2'] } } });
  t.is(await refusal(t, vm1.port('echo')), 'ECONNRESET');
  t.is(await ask(t, vm2.port('echo')), 'hello');
  const changes = await host.proxy.apply([{ ...group, policies: { echo: { channels: ['vms'] } } }]);
  t.deepEqual([...changes.changedPolicies].sort(), ['vm1/echo', 'vm2/echo']);
  t.is(await ask(t, vm1.port('echo')), 'hello');
  for (const guest of [vm1, vm2]) t.is(guest.proxy.channel('default').history.sessions, 1);
  const allowed = host.proxy.listEgress().map(({ channel, rules }) => `${channel}: ${rules?.allow.join()}`);
  t.deepEqual(allowed, ['vm1: vm1.internal:443', 'vm2: vm2.internal:443']);
});

// Keys, from files.

for (const [what, options, tls] of [
  ['a key', '', null],
  ['a key and TLS with it', ',tls=psk', 'psk'],
] as const) {
  test(`two sides with ${what} in common carry streams; a stranger gets no session and cannot end theirs`, async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, 'channel.sock');
    const [own, other] = [writeKeyFile(folder, 'own.key', '1f'), writeKeyFile(folder, 'other.key', '2e')];
    const served = [`echo:${(await localServer(t, echo)).port}`];
    const host = await startProxy(t, `unix-listen:${path}${options}`, { keyFiles: [own], incoming: served });
    const keyed = { keyFiles: [own], outgoing: ['echo:0'] };
    const guest = await startProxy(t, `unix-connect:${path}${options}`, keyed);
    await guest.event('session-established');
    const socket = await openEcho(t, guest.port('echo'));
    t.like(guest.proxy.channel('default').session, { tls, key: SecretKey.parse('1f'.repeat(32)).id });
    for (const [setup, says] of [
      [
        { keyFiles: [other] },
        /: no key in common: .*; give both sides the same key with --key FILE, and the same tls= \(auth-failed\)$/,
      ],
      [{}, /: the peer requires authentication, but this side has no key; give .* with --key FILE \(auth-failed\)$/],
    ] as const) {
      const clock = new ManualClock();
      const address = `unix-connect:${path}${'keyFiles' in setup ? options : ''}`;
      const stranger = await startProxy(t, address, { ...setup, clock });
      const status = () => stranger.proxy.channel('default');
      await eventually(() => (clock.advance(1000), (status().history.ends['auth-failed'] ?? 0) >= 3));
      const [first, ...more] = stranger.all('session-ended');
      t.is(first?.level, 'warn');
      t.deepEqual([...new Set(more.map(({ level }) => level))], ['debug']);
      await eventually(() => status().state === 'auth-failed');
      if (tls === null) {
        t.regex(first?.message ?? '', says);
        t.regex(status().detail ?? '', /with --key FILE(?:, and the same tls=)?$/);
      }
      await stranger.proxy.stop();
    }
    t.is(host.proxy.channel('default').history.sessions, 1);
    t.is(await answerTo(socket, 'hello'), 'hello');
    const said = JSON.stringify([host.events, guest.events, host.proxy.listChannels(), host.proxy.options]);
    t.false(said.includes('1f1f1f1f'));
  });
}

test('a key is rotated without interruption: both sides first add the new one, then drop the old one', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'channel.sock');
  const filesOf = (side: string) => [1, 2].map((index) => writeKeyFile(folder, `${side}-${index}.key`, '1f'));
  const host = await startProxy(t, `unix-listen:${path}`, { keyFiles: filesOf('host') });
  const guest = await startProxy(t, `unix-connect:${path}`, { keyFiles: filesOf('guest') });
  await guest.event('session-established');
  for (const index of [2, 1]) {
    for (const [side, { proxy }] of Object.entries({ host, guest })) {
      writeKeyFile(folder, `${side}-${index}.key`, '2e');
      t.deepEqual(proxy.reloadKeys(), []);
      t.is(guest.proxy.channel('default').state, 'established');
    }
  }
  t.is(guest.proxy.channel('default').history.sessions, 1);
  await host.proxy.stop();
  await startProxy(t, `unix-listen:${path}`, { keyFiles: [writeKeyFile(folder, 'new.key', '2e')] });
  await eventually(() => {
    guest.proxy.retryNow();
    return guest.proxy.channel('default').history.sessions === 2;
  });
});

test('a second key is adopted without interruption; the very first key restarts the channel', async (t) => {
  const folder = temporaryFolder(t);
  const [first, second] = [writeKeyFile(folder, 'first', '1f'), writeKeyFile(folder, 'second', '2e')];
  const { a: host, b: guest, path } = await proxyPair(t);
  const apply = async (ofHost: readonly string[], ofGuest: readonly string[]) => {
    const own = { address: `unix-listen:${path}`, name: 'a', keyFiles: ofHost };
    const { replacedChannels } = await host.proxy.apply([own]);
    await guest.proxy.apply([{ address: `unix-connect:${path}`, name: 'b', keyFiles: ofGuest }]);
    return replacedChannels;
  };
  const keyOf = ({ proxy }: TestProxy) => proxy.channel('default').session?.key;
  t.like(guest.proxy.channel('default').session, { key: null, tls: null });
  t.deepEqual(await apply([first], [first]), ['default']);
  const key = await eventually(() => keyOf(host) && keyOf(guest));
  t.deepEqual(await apply([second, first], [second]), []);
  t.is(keyOf(guest), key);
  t.is(host.proxy.channel('default').history.sessions, 1);
});

test('keys are reloaded: errors are returned, and the channel of an invalid file keeps its keys', async (t) => {
  const folder = temporaryFolder(t);
  const [good, bad] = [writeKeyFile(folder, 'good', '1f'), writeKeyFile(folder, 'bad', '2e')];
  const path = join(folder, 'channel.sock');
  const host = await startProxy(t, `unix-listen:${path}`, { keyFiles: [good, bad] });
  writeKeyFile(folder, 'good', '3d');
  writeKeyFile(folder, 'bad', '2e', 0o644);
  const [problem, ...more] = host.proxy.reloadKeys();
  t.is(problem?.code, 'bad-file');
  t.regex(problem?.message ?? '', /bad: accessible to other users \(mode 0644\); run chmod 600, /);
  t.deepEqual(more, []);
  const guest = await startProxy(t, `unix-connect:${path}`, { keyFiles: [writeKeyFile(folder, 'old', '1f')] });
  t.truthy(await guest.event('session-established'));
});

// Egresses: the rules in effect, validation, and tests of destinations.

test('{channel} in the name of an entry is the label of the channel, unless that is an address or not a name', (t) => {
  const egress = { web: { allow: ['{channel}.internal:443', '*.{channel}.example.org:80'], deny: ['{channel}:*'] } };
  const rules = resolveEgress(egress, 'vm1').get('web');
  const texts = (entries?: readonly { readonly text: string }[]) => entries?.map(({ text }) => text);
  t.deepEqual(texts(rules?.allow), ['vm1.internal:443', '*.vm1.example.org:80']);
  t.deepEqual([texts(rules?.deny), rules?.upstream], [['vm1:*'], null]);
  t.is(checkEgressEntry('{channel}.Internal:443'), '{channel}.Internal:443');
  t.is(checkEgressEntry('Example.ORG:443'), 'example.org:443');
  for (const label of ['10.0.0.5', '127.0.0.1', '0x7f.1', '1', '-']) {
    const resolve = () => resolveEgress({ web: { allow: ['{channel}:443'] } }, label);
    t.throws(resolve, { code: 'bad-argument', message: /^egress\.web\.allow: / }, label);
  }
});

test('invalid rules are refused beforehand, with their place', (t) => {
  const refusalOf = (egress: ChannelEgress, address = 'stdio:') => findRefusal({ address, egress })?.message ?? '';
  t.is(refusalOf({ web: { allow: ['*:443'], deny: ['10.0.0.0/8:*'], upstream: 'http://127.0.0.1:3128' } }), '');
  t.is(
    refusalOf({ web: { deny: ['10.0.0.1/8:*'] } }),
    'egress.web.deny: entry "10.0.0.1/8:*": the address has bits set after the prefix; the network is 10.0.0.0/8',
  );
  t.regex(refusalOf({ web: { upstream: 'https://a:1' } }), /^egress\.web\.upstream: upstream "https:\/\/a:1": /);
  t.regex(refusalOf({ WEB: {} }), /^egress "WEB": a name must be 1 to 64 of a-z/);
  const ofGroup = refusalOf({ web: { allow: ['{channel}'] } }, 'unix-connect:/run/*.sock');
  t.regex(ofGroup, /^egress\.web\.allow: entry "a": missing ports/);
});

test('new egress rules take effect at once, and the channel stays; invalid rules change nothing', async (t) => {
  const address = `unix-listen:${join(temporaryFolder(t), 'c')}`;
  const { proxy } = await startProxy(t, address, { label: 'vm1', egress: { web: { allow: ['192.0.2.0/24:80'] } } });
  const apply = (egress?: ChannelEgress) => proxy.apply([{ label: 'vm1', address, ...(egress && { egress }) }]);
  const isAllowed = async (port: number) => (await proxy.testEgress('web', `192.0.2.1:${port}`)).isAllowed;
  const wrong = { code: 'bad-argument', message: /^egress\.web\.allow: / };
  await t.throwsAsync(apply({ web: { allow: ['192.0.2.0/24:443', 'x'] } }), wrong);
  t.deepEqual([await isAllowed(80), await isAllowed(443)], [true, false]);
  const changes = await apply({ web: { allow: ['192.0.2.0/24:443'] }, other: { allow: ['*:443'] } });
  t.deepEqual([changes.changedEgress, changes.replacedChannels], [['vm1/web', 'vm1/other'], []]);
  t.deepEqual([await isAllowed(80), await isAllowed(443)], [false, true]);
  t.deepEqual((await apply()).changedEgress, ['vm1/web', 'vm1/other']);
  const message = 'no egress "web" on channel vm1; none available';
  await t.throwsAsync(isAllowed(443), { code: 'not-found', message });
});

test('a test of a name reports each address; an invalid destination is refused in one line', async (t) => {
  const egress = { web: { allow: ['localhost:*', '127.0.0.0/8:80', '[::1]:80'] } };
  const own = { channel: 'vm1', egresses: resolveEgress(egress, 'vm1') };
  const { signal } = new AbortController();
  const told = (text: string) => testEgress(own, 'web', parseEgressDestination(text), { clock: systemClock, signal });
  const { addresses, isAllowed } = await told('LocalHost.:80');
  t.true(isAllowed && addresses.length > 0);
  for (const { address, rule } of addresses)
    t.is(rule, address === '::1' ? 'allow "[::1]:80"' : 'allow "127.0.0.0/8:80"');
  t.like(await told('localhost:81'), { isAllowed: false });
  t.deepEqual((await told('never-looked-up.example:443')).addresses, []);
  const names = ['example.org', 'example.org:', 'example.org:0', 'example.org:65536', '::1:80', '[a]:80', ':80'];
  for (const text of [...names, '0x7f.1:80', 'a@b:80', 'http://a:80', ''])
    t.throws(() => parseEgressDestination(text), { code: 'bad-argument', message: /^[^\n]*$/ }, text);
});

/** Rules of egresses on channels and groups: which are in force, what is refused beforehand, and what an operator is told. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type ChannelEgress, changedEgress, checkEgressEntry, resolveEgress } from '../../lib/proxy/channel-egress.js';
import { findRefusal } from '../../lib/proxy/check-options.js';
import { parseEgressDestination, testEgress } from '../../lib/proxy/test-egress.js';
import { systemClock } from '../../lib/util/clock.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, TestProxy } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const signal = new AbortController().signal;

test('{channel} in the name of an entry is the label of the channel, wherever it is said', (t) => {
  const egress = { web: { allow: ['{channel}.internal:443', '*.{channel}.example.org:80'], deny: ['{channel}:*'] } };
  const rules = resolveEgress(egress, 'vm1').get('web');
  t.deepEqual(
    [rules?.allow.map(({ text }) => text), rules?.deny.map(({ text }) => text), rules?.upstream],
    [['vm1.internal:443', '*.vm1.example.org:80'], ['vm1:*'], null],
  );
  t.is(checkEgressEntry('{channel}.Internal:443'), '{channel}.Internal:443');
  t.is(checkEgressEntry('Example.ORG:443'), 'example.org:443');
});

for (const label of ['10.0.0.5', '127.0.0.1', '0x7f.1', '1', '-']) {
  test(`a channel called ${label} gets no address, and no other name, for {channel}`, (t) => {
    const error = t.throws(() => resolveEgress({ web: { allow: ['{channel}:443'] } }, label), { code: 'bad-argument' });
    t.regex(error.message, /^egress\.web\.allow: /);
  });
}

test('what is not right is refused beforehand, with its place', (t) => {
  const refusalOf = (egress: ChannelEgress) =>
    findRefusal({ address: 'stdio:', label: 'vm1', egress })?.message ?? null;
  t.is(refusalOf({ web: { allow: ['*:443'], deny: ['10.0.0.0/8:*'], upstream: 'http://127.0.0.1:3128' } }), null);
  t.is(
    refusalOf({ web: { deny: ['10.0.0.1/8:*'] } }),
    'egress.web.deny: entry "10.0.0.1/8:*": the address has bits behind the prefix; the network is 10.0.0.0/8',
  );
  t.regex(refusalOf({ web: { upstream: 'https://a:1' } }) ?? '', /^egress\.web\.upstream: upstream "https:\/\/a:1": /);
  t.regex(refusalOf({ WEB: {} }) ?? '', /^egress "WEB": a name is 1 to 64 of a-z/);
  const group = { address: 'unix-connect:/run/*.sock', egress: { web: { allow: ['{channel}'] } } };
  t.regex(findRefusal(group)?.message ?? '', /^egress\.web\.allow: entry "a": there are no ports/);
});

test('which egresses differ', (t) => {
  const one = { a: { allow: ['x.example:1'] }, b: { allow: ['x.example:1'] }, c: {}, d: { deny: [] } };
  const other = {
    a: { allow: ['x.example:1'] },
    b: { allow: ['x.example:2'] },
    d: { deny: ['*:*'] },
    e: { allow: ['*:1'] },
  };
  t.deepEqual(changedEgress(one, other), ['b', 'd', 'e']);
  t.deepEqual(changedEgress(undefined, undefined), []);
});

test('other rules are in force at once, and the channel stays', async (t) => {
  const address = `unix-listen:${join(temporaryFolder(t), 'c')}`;
  const { proxy } = new TestProxy(t, address, { label: 'vm1', egress: { web: { allow: ['192.0.2.0/24:80'] } } });
  await proxy.start();
  const isAllowed = async (destination: string) => (await proxy.testEgress('web', destination)).isAllowed;
  t.true(await isAllowed('192.0.2.1:80'));
  const egress = { web: { allow: ['192.0.2.0/24:443'] }, other: { allow: ['*:443'] } };
  const changes = await proxy.apply([{ label: 'vm1', address, egress }]);
  t.deepEqual([changes.changedEgress, changes.replacedChannels], [['vm1/web', 'vm1/other'], []]);
  t.false(await isAllowed('192.0.2.1:80'));
  t.true(await isAllowed('192.0.2.1:443'));
  t.deepEqual((await proxy.apply([{ label: 'vm1', address }])).changedEgress, ['vm1/web', 'vm1/other']);
  await t.throwsAsync(proxy.testEgress('web', '192.0.2.1:443'), {
    code: 'not-found',
    message: 'there is no egress web on channel vm1; there are none',
  });
});

test('rules that are not right change nothing', async (t) => {
  const address = `unix-listen:${join(temporaryFolder(t), 'c')}`;
  const { proxy } = new TestProxy(t, address, { label: 'vm1', egress: { web: { allow: ['192.0.2.0/24:80'] } } });
  await proxy.start();
  const egress = { web: { allow: ['192.0.2.0/24:443', 'x'] } };
  await t.throwsAsync(proxy.apply([{ label: 'vm1', address, egress }]), {
    code: 'bad-argument',
    message: /^egress\.web\.allow: /,
  });
  t.true((await proxy.testEgress('web', '192.0.2.1:80')).isAllowed);
});

test('each channel of a group has its own label in the rules', async (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'vms'));
  for (const label of ['vm1', 'vm2'])
    await localServer(t, () => undefined, { path: join(folder, 'vms', `${label}.sock`) });
  const egress = { web: { allow: ['{channel}.internal:443'] } };
  const host = new TestProxy(t, `unix-connect:${folder}/vms/*.sock`, { label: 'vms', egress });
  await host.start();
  await eventually(() => host.proxy.listChannels().length === 2);
  t.deepEqual(
    host.proxy.listEgress().map(({ channel, rules }) => [channel, rules?.allow]),
    [
      ['vm1', ['vm1.internal:443']],
      ['vm2', ['vm2.internal:443']],
    ],
  );
});

test('a destination is told with the rule that decides, and each of its addresses', async (t) => {
  const egress = { web: { allow: ['localhost:*', '127.0.0.0/8:80', '[::1]:80'], deny: ['127.0.0.9:*'] } };
  const own = { channel: 'vm1', egresses: resolveEgress(egress, 'vm1') };
  const told = (text: string) => testEgress(own, 'web', parseEgressDestination(text), { clock: systemClock, signal });
  const { addresses, ...known } = await told('LocalHost.:80');
  t.like(known, { channel: 'vm1', name: 'web', destination: 'localhost:80', isAllowed: true });
  t.true(addresses.length > 0);
  for (const one of addresses) {
    t.true(one.isAllowed);
    t.is(one.rule, one.address === '::1' ? 'allow "[::1]:80"' : 'allow "127.0.0.0/8:80"');
  }
  t.like(await told('localhost:81'), { isAllowed: false });
  t.like(await told('127.0.0.9:80'), { isAllowed: false, rule: 'deny "127.0.0.9:*"' });
  t.like(await told('[::1]:80'), { destination: '[::1]:80', isAllowed: true, rule: 'allow "[::1]:80"' });
  t.deepEqual(await told('never-looked-up.example:443'), {
    ...{ channel: 'vm1', name: 'web', destination: 'never-looked-up.example:443' },
    ...{ isAllowed: false, rule: null, why: 'no entry allows it', addresses: [] },
  });
});

for (const text of [
  'example.org',
  'example.org:',
  'example.org:0',
  'example.org:65536',
  '::1:80',
  '[a]:80',
  ':80',
  '0x7f.1:80',
  'a@b:80',
  'http://a:80',
  '',
]) {
  test(`"${text}" is no destination`, (t) => {
    const { message } = t.throws(() => parseEgressDestination(text), { code: 'bad-argument' });
    t.notRegex(message, /\n/);
  });
}

/** Validation of options without opening a channel, which a proxy with these options confirms. */
import { readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { parseChannel, placeOf } from '../../lib/channel/address/address.js';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import type { ErrorCode } from '../../lib/errors.js';
import { type ChannelOptions, parseOptions } from '../../lib/proxy/channel/channel-options.js';
import { findRefusal, findTwins } from '../../lib/proxy/channel/check-channel.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { incoming, outgoing } from '../helpers/proxies.js';

const address = 'unix-connect:/run/vm1.sock';
const group = 'unix-connect:/run/vms/*.sock';

function thrownByProxy(options: ChannelOptions): unknown {
  try {
    new Proxy({ channels: [options], agent: 'test' });
    return null;
  } catch (error) {
    return error;
  }
}

const template = (text: string) => [{ direction: 'outgoing', text }] as const;

test('a channel, a local listener and a group are accepted, even a group whose members may be refused later', (t) => {
  for (const options of [
    { address, forwards: [...outgoing('a:0', 'b:/run/b,mode=0660,user=root'), ...incoming('c:22')] },
    { address: 'tcp-listen:127.0.0.1:0', label: 'vm1' },
    { address: group, template: template('a:/run/{channel}') },
    { address: group, template: template('a:/run/{channel},user={channel}') },
  ])
    t.deepEqual([findRefusal(options), thrownByProxy(options)], [null, null]);
});

const LISTENER_FOR_TARGETS = incoming('a:exec:cat').map((spec) => ({ ...spec, direction: 'outgoing' as const }));
const KNOWN_TWICE = { copy: { root: null }, forwards: incoming('copy:22') };

const REFUSED: readonly (readonly [what: string, options: ChannelOptions, message: RegExp, code?: ErrorCode])[] = [
  ['a label', { address, label: 'VM1' }, /^channel label "VM1": must be/],
  ['an address', { address: 'toy:x' }, /^channel "toy:x": expected KIND:ADDRESS/],
  ['two stars', { address: 'unix-connect:/run/**.sock' }, /more than one \*/],
  ['a star in a folder', { address: 'unix-connect:/run/*/vm.sock' }, /\*/],
  ['a template of a channel', { address, template: template('a:0') }, /only a group/],
  ['a listener for everybody', { address: 'tcp-listen:0.0.0.0:7000' }, /needs TLS .* or --insecure/],
  ['TLS without a key', { address: 'tcp-listen:0.0.0.0:7000,tls=psk' }, /tls=psk needs a key/],
  ['TLS without its files', { address: 'stdio:,tls=cert,ca=/a,key=/k' }, /tls=cert requires cert=/],
  ['files without TLS', { address: 'stdio:,ca=/a' }, /ca= requires tls=cert/],
  ['another TLS', { address: 'stdio:,tls=on' }, /psk or cert/],
  ['a key that is missing', { address, keyFiles: ['/missing/key'] }, /^\/missing\/key: /, 'bad-file'],
  [
    'a listener that is for targets',
    { address, forwards: LISTENER_FOR_TARGETS },
    /^-o a: cannot use an endpoint of kind exec/,
  ],
  ['a service that is offered twice', { address, ...KNOWN_TWICE }, /service copy is offered twice/],
  ['an option that a group has not', { address: `${group},size=1` }, /unknown option "size"/],
  ['forwards of a group', { address: group, forwards: outgoing('a:0') }, /a template in place of forwards/],
  ['a template', { address: group, template: template('a:{channel}') }, /^-o a:a: not a valid ADDR:PORT/],
  ['a key of a group', { address: group, keyFiles: ['/missing/key'] }, /^\/missing\/key: /, 'bad-file'],
  [
    'commands that are no list',
    { address, exec: { commands: '/bin/sh-x' as never } },
    /^exec.commands: expected a list/,
  ],
  ['commands that are false', { address, exec: false as never }, /^exec: expected \{ commands \}/],
  ['a rule that is false', { address, policies: { exec: false as never } }, /^policies.exec: expected \{ isAllowed,/],
  ['rules that are null', { address, policies: null as never }, /^policies: expected a plain object/],
  [
    'rules in a Map',
    { address, policies: new Map([['exec', { isAllowed: false }]]) as never },
    /^policies: expected a plain/,
  ],
  [
    'a rule that inherits',
    { address, policies: { exec: Object.create({ isAllowed: false }) as object } },
    /^policies.exec: /,
  ],
  ['a rule of a file', { address, policies: { exec: { allow: false } as never } }, /^policies.exec.allow: unknown; /],
  ['a limit of a rule', { address, policies: { exec: { streams: NaN } } }, /^policies.exec.streams: expected a number/],
  [
    'channels of a rule',
    { address, policies: { exec: { channels: 'vm1' as never } } },
    /^policies.exec.channels: expected a list/,
  ],
  ['keys that are a text', { address, keyFiles: '' as never }, /^keyFiles: expected a list/],
  ['a misspelt option', { address, keyFile: ['/k'] } as never, /^keyFile: unknown; did you mean keyFiles\?/],
  ['a flag that is a text', { address, insecure: 'no' as never }, /^insecure: expected true or false/],
  [
    'a denial that is a text',
    { address, egress: { web: { deny: '*:*' as never } } },
    /^egress.web.deny: expected a list/,
  ],
  ['a broker that is false', { address, storage: false as never }, /^storage: expected \{ isAllowed,/],
  ['a rule of a group', { address: group, policies: { exec: false as never } }, /^policies.exec: expected/],
  ['copies without a root', { address, copy: '/srv' as never }, /expected \{ root \}/],
  ['copies that are false', { address, copy: false as never }, /expected \{ root \}/],
  ['a clock that is true', { address, followClock: true as never }, /expected \{ thresholdMs, maxBackMs \}/],
  ['a clock that is false', { address, followClock: false as never }, /expected \{ thresholdMs, maxBackMs \}/],
  [
    'a clock without bounds',
    { address, followClock: { thresholdMs: 500, maxBackMs: NaN } },
    /^followClock.maxBackMs: expected/,
  ],
  ['copies of a file', { address, copy: { root: '/etc/passwd' } }, /no such folder/],
  ['permissions of a group', { address: group, copy: { root: '/missing' } }, /no such folder/],
];

for (const [what, options, message, code = 'bad-argument'] of REFUSED) {
  test(`refused: ${what}`, (t) => {
    const refusal = findRefusal(options);
    t.is(refusal?.code, code);
    t.regex(refusal?.message ?? '', message);
    t.like(thrownByProxy(options), { code, message: refusal?.message });
  });
}

test('channels that are no list are refused', async (t) => {
  const refusal = { code: 'bad-argument', message: 'channels: expected a list' };
  t.throws(() => new Proxy({ channels: 'vm1' as never, agent: 'test' }), refusal);
  const proxy = new Proxy({ channels: [], agent: 'test' });
  await t.throwsAsync(proxy.apply({} as never), refusal);
});

test('validation opens and creates nothing', (t) => {
  const folder = temporaryFolder(t);
  const forwards = [...outgoing(`a:${folder}/a`), ...incoming(`log:file:${folder}/log`)];
  t.is(findRefusal({ address: `unix-listen:${folder}/channel`, forwards }), null);
  t.is(findRefusal({ address: `unix-connect:${folder}/*.sock`, template: template(`a:${folder}/{channel}/a`) }), null);
  t.deepEqual(readdirSync(folder), []);
});

// Channels on which commands and copies may be allowed.

const make = (options: ChannelOptions) => () => new Proxy({ channels: [options], agent: 'vproxy test' });

const ALLOWED = { exec: { exec: { commands: 'any' } }, copy: { copy: { root: null } } } as const;

/** Addresses of each kind that no stranger can reach, neither over a network nor from another virtual machine. */
const LOCAL: Readonly<Record<string, readonly string[]>> = {
  'unix-connect': ['/x.sock', '/vms/*.sock'],
  'unix-listen': ['/x.sock'],
  'tcp-connect': ['127.0.0.1:7000', '127.9.9.9:7000', '[::1]:7000', 'localhost:7000'],
  'tcp-listen': ['127.0.0.1:0', '[::1]:0', 'localhost:0'],
  'virtserial-open': ['org.vproxy.0'],
  'tty-open': ['/dev/ttyS1'],
  'pipe-open': ['/x.pipe'],
  stdio: [''],
  fd: ['3'],
  exec: ['ssh host vproxy -c stdio:'],
  libvirt: ['vm1', 'vm1:org.vproxy.0,uri=qemu:///system'],
  'vsock-mux-connect': ['/x.vsock:1'],
  'vsock-mux-listen': ['/x.vsock_1'],
  'vsock-connect': ['2:1'],
};

const NETWORK = 'anybody on the network';

/** Possible peers, by address. */
const STRANGERS: Readonly<Record<string, string>> = {
  'tcp-connect:192.0.2.1:7000': NETWORK,
  'tcp-connect:[2001:db8::1]:7000': NETWORK,
  'tcp-connect:host.example:7000': NETWORK,
  'tcp-listen:0.0.0.0:0': NETWORK,
  'tcp-listen:[::]:0': NETWORK,
  'vsock-listen:1': 'any virtual machine of this host',
};

test('each kind of channel has a verdict, the same as in docs/security.md', (t) => {
  const section =
    /^\*\*Who may use them\.\*\*[^]*?(?=^\*\*)/m.exec(readFileSync('docs/security.md', 'utf8'))?.[0] ?? '';
  const rows = section.split('\n').flatMap((line) => {
    const [, kinds = '', , answer = ''] = line.split('|').map((cell) => cell.trim());
    if (answer !== 'yes' && answer !== 'no') return [];
    return [...kinds.matchAll(/`([^`]+)`/g)].map(([, kind]) => `${kind}: ${answer}`);
  });
  const kindOf = (address: string): string => address.replace(/:.*/, '');
  const open = Object.keys(STRANGERS).map((address) => `${kindOf(address)}: yes`);
  const local = Object.keys(LOCAL).map((kind) => `${kind}: no`);
  t.deepEqual(rows.sort(), [...new Set([...open, ...local])].sort());
  const kinds = [...Object.keys(LOCAL), ...Object.keys(STRANGERS).map(kindOf)];
  t.deepEqual([...new Set(kinds)].sort(), [...CHANNEL_KINDS.keys()].sort());
});

for (const [kind, addresses] of Object.entries(LOCAL)) {
  test(`${kind} within this machine may allow commands and copies as it is`, (t) => {
    for (const address of addresses)
      t.notThrows(make({ address: `${kind}:${address}`, ...ALLOWED.exec, ...ALLOWED.copy }), address);
  });
}

for (const [address, strangers] of Object.entries(STRANGERS)) {
  test(`${address} may only with an authenticated peer`, async (t) => {
    const key = writeKeyFile(temporaryFolder(t), 'own.key', '1f');
    const running = new Proxy({ channels: [], agent: 'vproxy test' });
    t.teardown(() => running.stop());
    for (const [service, permission] of Object.entries(ALLOWED)) {
      t.notThrows(make({ address, insecure: true, ...permission }));
      t.notThrows(make({ address: `${address},tls=psk`, keyFiles: [key], ...permission }));
      t.notThrows(make({ address: `${address},tls=cert,ca=/a,cert=/c,key=/k`, ...permission }));
      if (address.startsWith('tcp-listen')) continue;
      t.notThrows(make({ address, keyFiles: [key], ...permission }));
      const found = `channel "${address}": --allow-${service}: the peer could be ${strangers}`;
      const message = `${found}; give both sides a --key FILE, or this one --insecure`;
      t.throws(make({ address, ...permission }), { code: 'bad-argument', message });
      await t.throwsAsync(running.addChannel({ address, ...permission }), { code: 'bad-argument', message });
      await t.throwsAsync(running.apply([{ address, ...permission }]), { code: 'bad-argument', message });
      t.notThrows(make({ address }), 'which nothing else needs');
    }
    t.deepEqual(running.listChannels(), []);
  });
}

// A process can open a channel only once, however its address is spelled.

const place = (text: string): string | null => placeOf(parseChannel(text));

test('two spellings of an address are one channel', (t) => {
  for (const [one, other] of [
    ['unix-connect:/run/vm1.sock', 'unix-connect:/run/x/../vm1.sock,resume=60s'],
    ['unix-connect:/run/vm1.sock', 'qemu:socket,id=c,path=/run/vm1.sock,server=on,wait=off'],
    ['unix-listen:/tmp/none.sock', 'unix-listen:/tmp//none.sock'],
    ['tcp-connect:localhost:9000', 'tcp-connect:127.0.0.1:9000'],
    ['tcp-connect:Host1:9000', 'tcp-connect:host1:9000'],
    ['tcp-connect:[::1]:9000', 'tcp-connect:[0:0::1]:9000'],
    ['virtserial-open:org.vproxy.0', 'virtserial-open:/dev/virtio-ports/org.vproxy.0'],
    ['tty-open:/dev/none', 'tty-open:/dev/./none,baud=9600'],
    ['pipe-open:/tmp/fifo', 'pipe-open:/tmp/./fifo'],
    ['vsock-mux-connect:/tmp/v.sock:5', 'vsock-mux-connect:/tmp/./v.sock:5'],
    ['stdio:', 'stdio:'],
  ] as const)
    t.is(place(one) ?? 'nowhere', place(other) ?? 'nobody', one);
});

test('two places are two channels; so are equal commands, and ports that the system picks', (t) => {
  for (const [one, other] of [
    ['unix-connect:/run/vm1.sock', 'unix-connect:/run/vm2.sock'],
    ['unix-connect:/run/vm1.sock', 'unix-listen:/run/vm1.sock'],
    ['tcp-connect:host1:9000', 'tcp-connect:host1:9001'],
    ['vsock-mux-connect:/tmp/v.sock:5', 'vsock-mux-connect:/tmp/v.sock:6'],
    ['libvirt:vm1', 'libvirt:vm1,uri=qemu:///session'],
    ['fd:3', 'fd:4'],
  ] as const)
    t.not(place(one), place(other), one);
  t.deepEqual([place('exec:ssh host1 vproxy -c stdio:'), place('tcp-listen:127.0.0.1:0')], [null, null]);
});

test('links are followed', (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'real'), '');
  symlinkSync('real', join(folder, 'link'));
  symlinkSync('.', join(folder, 'here'));
  t.is(place(`unix-connect:${folder}/link`), place(`unix-connect:${folder}/real`));
  t.is(place(`unix-connect:${folder}/here/missing`), place(`unix-connect:${folder}/./missing`));
});

test('a proxy refuses the same channel twice, at the start, later, and in a set; and accepts it as a replacement', async (t) => {
  const folder = temporaryFolder(t);
  const channel = (label: string, path: string) => ({ label, address: `unix-connect:${folder}/${path}` });
  const [a, b] = [channel('a', 'vm1'), channel('b', './vm1')];
  const refusal = {
    code: 'bad-argument',
    message: `channel b: unix-connect:${folder}/./vm1 is already in use by channel a; a process can open it only once`,
  };
  t.throws(() => new Proxy({ agent: 'test', channels: [a, b] }), refusal);
  const proxy = new Proxy({ agent: 'test', channels: [a] });
  t.teardown(() => proxy.stop());
  await proxy.start();
  const labels = () => proxy.listChannels().map(({ label }) => label);
  await t.throwsAsync(proxy.addChannel(b), refusal);
  await t.throwsAsync(proxy.apply([a, b]), refusal);
  t.deepEqual(labels(), ['a']);
  await proxy.apply([b]);
  t.deepEqual(labels(), ['b'], 'a channel can be given another label');
  await proxy.apply([channel('a', 'vm2'), b]);
  await proxy.apply([channel('a', 'vm1'), channel('b', 'vm2')]);
  t.deepEqual(labels(), ['a', 'b'], 'and two of them each other’s address');
  t.deepEqual([...findTwins([a, b, channel('c', 'vm3')].map(parseOptions)).keys()], ['b']);
});

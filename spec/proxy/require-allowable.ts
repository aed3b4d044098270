/** On which channels commands and copies may be allowed: for each kind. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import type { ChannelOptions } from '../../lib/proxy/channel-options.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';

const make = (options: ChannelOptions) => () => new Proxy({ channels: [options], agent: 'vproxy test' });

const BOTH: Pick<ChannelOptions, 'exec' | 'copy'> = { exec: { commands: 'any' }, copy: { root: null } };

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

test('docs/security.md has the same answer for each kind', (t) => {
  const section = /^\*\*Who may\.\*\*[^]*?(?=^\*\*)/m.exec(readFileSync('docs/security.md', 'utf8'))?.[0] ?? '';
  const rows = section.split('\n').flatMap((line) => {
    const [, kinds = '', , answer = ''] = line.split('|').map((cell) => cell.trim());
    if (answer !== 'yes' && answer !== 'no') return [];
    return [...kinds.matchAll(/`([^`]+)`/g)].map(([, kind]) => `${kind}: ${answer}`);
  });
  const kindOf = (address: string): string => address.replace(/:.*/, '');
  const open = Object.keys(STRANGERS).map((address) => `${kindOf(address)}: yes`);
  const local = Object.keys(LOCAL).map((kind) => `${kind}: no`);
  t.deepEqual(rows.sort(), [...new Set([...open, ...local])].sort());
});

test('each kind of channel is judged', (t) => {
  const kinds = [...Object.keys(LOCAL), ...Object.keys(STRANGERS).map((address) => address.replace(/:.*/, ''))];
  t.deepEqual([...new Set(kinds)].sort(), [...CHANNEL_KINDS.keys()].sort());
});

for (const [kind, addresses] of Object.entries(LOCAL)) {
  for (const address of addresses) {
    test(`${kind}:${address} may lead to commands and copies as it is`, (t) => {
      t.notThrows(make({ address: `${kind}:${address}`, ...BOTH }));
    });
  }
}

for (const [address, strangers] of Object.entries(STRANGERS)) {
  test(`${address} may only when the peer is known`, (t) => {
    const key = writeKeyFile(temporaryFolder(t), 'own.key', '1f');
    for (const [service, permission] of [
      ['exec', { exec: { commands: ['/usr/bin/uname'] } }],
      ['copy', { copy: { root: '/' } }],
    ] as const) {
      t.notThrows(make({ address, insecure: true, ...permission }));
      t.notThrows(make({ address: `${address},tls=psk`, keyFiles: [key], ...permission }));
      t.notThrows(make({ address: `${address},tls=cert,ca=/a,cert=/c,key=/k`, ...permission }));
      if (address.startsWith('tcp-listen')) continue;
      t.notThrows(make({ address, keyFiles: [key], ...permission }));
      t.throws(make({ address, ...permission }), {
        code: 'bad-argument',
        message: `channel "${address}": --allow-${service}: the peer could be ${strangers}; give both sides a --key FILE, or this one --insecure`,
      });
    }
    if (!address.startsWith('tcp-listen')) t.notThrows(make({ address }), 'which nothing else needs');
  });
}

test('a folder of copies has to be one', (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'in'));
  writeFileSync(join(folder, 'file'), '');
  t.notThrows(make({ address: 'stdio:', copy: { root: join(folder, 'in') } }));
  for (const name of ['none', 'file', 'file/x']) {
    t.throws(make({ address: 'stdio:', copy: { root: join(folder, name) } }), { message: /there is no such folder/ });
  }
});

test('neither can be added to a proxy that runs where it could not be at its start', async (t) => {
  const proxy = new Proxy({ channels: [], agent: 'vproxy test' });
  t.teardown(() => proxy.stop());
  await t.throwsAsync(proxy.addChannel({ address: 'tcp-connect:192.0.2.1:7000', ...BOTH }), { code: 'bad-argument' });
  await t.throwsAsync(proxy.apply([{ address: 'tcp-connect:192.0.2.1:7000', ...BOTH }]), { code: 'bad-argument' });
  t.deepEqual(proxy.listChannels(), []);
});

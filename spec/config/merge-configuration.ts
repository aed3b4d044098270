import test from 'ava';
import { parseRunFlags } from '../../cli/run/run-options.js';
import { formatForwardSpec } from '../../lib/forward/spec.js';
import {
  type Configuration,
  describeConfiguration,
  type FileLayer,
  formatConfiguration,
} from '../../lib/settings/configuration.js';
import { mergeConfiguration } from '../../lib/settings/merge.js';
import { parseConfiguration } from '../../lib/settings/parse-configuration.js';
import { givenIn } from '../helpers/given-options.js';

const FILE = `
name = "host1"
control = "/run/a.sock"
metrics = "127.0.0.1:9464"
log-level = "error"
log-format = "json"
wait = 7

[channels.vm1]
address = "unix:///run/vm1.sock"
outgoing = ["ssh:127.0.0.1:9022", "any:127.0.0.1:0"]
incoming = ["web:8080", "db:/run/db.sock"]
wait = 3
dead-after = 30
name = "guest"
storage = { socket = "/run/x.sock", parallel = 4 }

[channels.vm2]
address = "tcp-connect:127.0.0.1:9000"
`;

function read(text: string): FileLayer {
  const { layer, problems } = parseConfiguration(text, 'f');
  if (problems.length > 0) throw new Error(JSON.stringify(problems));
  return layer;
}

/** The configuration in force; flags as yargs returns them. */
const merge = (file: string | null, flags: Record<string, unknown> = {}): Configuration =>
  mergeConfiguration(file === null ? null : read(file), parseRunFlags(givenIn(flags)));

const forwardsOf = ({ channels }: Configuration, label: string): string[] =>
  (channels.find((channel) => channel.label === label)?.forwards ?? []).map((spec) => formatForwardSpec(spec));

test('flags alone, with everything else left to defaults', (t) => {
  t.deepEqual(merge(null, { channel: 'tcp://127.0.0.1:9000?streams=1024' }), {
    once: false,
    logLevel: 'info',
    logFormat: 'text',
    logDetails: false,
    channelDefaults: { name: null, storage: {} },
    channels: [
      {
        label: 'default',
        address: 'tcp-connect:127.0.0.1:9000',
        forwards: [],
        name: null,
        waitMs: 10_000,
        deadAfterMs: 30_000,
        bufferBytes: 1_048_576,
        insecure: false,
        keyFiles: [],
        peerAddress: false,
        announcePorts: null,
        forwardPorts: null,
        policies: {},
        egress: {},
        exec: null,
        copy: null,
        storage: { isAllowed: true, socketPath: null, parallel: 1 },
      },
    ],
  });
});

test('a file alone: its own defaults, then those of the kind', (t) => {
  const merged = merge(FILE);
  t.like(merged, {
    name: 'host1',
    control: '/run/a.sock',
    metrics: { host: '127.0.0.1', port: 9464 },
    logLevel: 'error',
    logFormat: 'json',
  });
  t.like(merged.channels[0], {
    label: 'vm1',
    address: 'unix-connect:/run/vm1.sock',
    name: 'guest',
    waitMs: 3000,
    deadAfterMs: 30_000,
    storage: { isAllowed: true, socketPath: '/run/x.sock', parallel: 4 },
  });
  t.like(merged.channels[1], { label: 'vm2', name: 'host1', waitMs: 7000, deadAfterMs: 30_000 });
});

test('flags win over everything in the file that says the same', (t) => {
  const merged = merge(FILE, {
    name: 'other',
    'no-control': true,
    metrics: '127.0.0.1:1',
    verbose: 2,
    'log-format': 'text',
    wait: '0',
    'dead-after': '0',
    insecure: true,
  });
  t.like(merged, {
    name: 'other',
    control: false,
    metrics: { host: '127.0.0.1', port: 1 },
    logLevel: 'debug',
    logDetails: true,
    logFormat: 'text',
  });
  for (const channel of merged.channels) t.like(channel, { waitMs: 0, deadAfterMs: null, insecure: true });
  // The name of the process is not a setting of a channel.
  t.deepEqual(
    merged.channels.map(({ name }) => name),
    ['guest', 'other'],
  );
});

const GUARDED = `
keys = ["/all.key"]
audit = "/var/log/audit.log"
[services.ssh]
channels = ["vm1"]
streams = 10
idle-timeout = 300
[channels.vm1]
address = "stdio:"
keys = ["/vm1.key", "/old.key"]
peer-address = true
[channels.vm1.services.ssh]
streams = 2
[channels.vm1.services.web]
bytes-per-second = 1e6
[channels.vm2]
address = "tcp-connect:127.0.0.1:9000"
`;

test('keys and rules of a channel: its own before those of all, a rule key by key', (t) => {
  const { channels, channelDefaults, audit } = merge(GUARDED);
  t.like(channels[0], {
    keyFiles: ['/vm1.key', '/old.key'],
    peerAddress: true,
    policies: { ssh: { channels: ['vm1'], streams: 2, idleTimeoutMs: 300_000 }, web: { bytesPerSecond: 1_000_000 } },
  });
  const ssh = { channels: ['vm1'], streams: 10, idleTimeoutMs: 300_000 };
  t.like(channels[1], { keyFiles: ['/all.key'], peerAddress: false, policies: { ssh } });
  t.like(channelDefaults, { keyFiles: ['/all.key'], policies: { ssh } });
  t.deepEqual(audit, { path: '/var/log/audit.log', rotation: null });
});

test('--key, --peer-address and --audit win over what the file says', (t) => {
  const { channels, audit } = merge(GUARDED, {
    key: ['/a.key', '/b.key'],
    'peer-address': true,
    audit: '/b.log,rotate=1M',
  });
  for (const channel of channels) t.like(channel, { keyFiles: ['/a.key', '/b.key'], peerAddress: true });
  t.deepEqual(audit, { path: '/b.log', rotation: { maxBytes: 2 ** 20, keep: 5 } });
});

const ALLOWING = `
allow-exec = ["/usr/bin/uname"]
allow-copy = true
[channels.vm1]
address = "stdio:"
allow-exec = true
allow-copy = "/srv//in/"
[channels.vm2]
address = "stdio:"
allow-exec = false
allow-copy = false
[channels.vm3]
address = "stdio:"
[channels.vm4]
address = "stdio:"
allow-exec = []
`;

const permissionsOf = ({ channels }: Configuration) => channels.map(({ exec, copy }) => ({ exec, copy }));

test('commands and copies: nothing is allowed where nothing is said, a channel takes back what the file says for all', (t) => {
  t.deepEqual(permissionsOf(merge(FILE)), [
    { exec: null, copy: null },
    { exec: null, copy: null },
  ]);
  const merged = merge(ALLOWING);
  t.deepEqual(permissionsOf(merged), [
    { exec: { commands: 'any' }, copy: { root: '/srv/in' } },
    { exec: null, copy: null },
    { exec: { commands: ['/usr/bin/uname'] }, copy: { root: null } },
    { exec: null, copy: { root: null } },
  ]);
  const asJson = merge(formatConfiguration(merged, 'json'));
  t.deepEqual(permissionsOf(asJson), permissionsOf(merged), 'and JSON says the same');
});

test('--allow-exec and --allow-copy are for every channel, whatever the file says', (t) => {
  const flags = { 'allow-exec': '/bin/a,,b,/usr//bin/id', 'allow-copy': '/srv/./out/' };
  const allowed = { exec: { commands: ['/bin/a,b', '/usr/bin/id'] }, copy: { root: '/srv/out' } };
  const merged = merge(ALLOWING, flags);
  t.deepEqual(permissionsOf(merged), [allowed, allowed, allowed, allowed]);
  t.like(merged.channelDefaults, allowed, 'and for those that are added later');
});

test('what flags say of storage leaves the rest of what the file says of it', (t) => {
  t.deepEqual(merge(FILE, { 'storage-parallel': '9' }).channels[0]?.storage, {
    isAllowed: true,
    socketPath: '/run/x.sock',
    parallel: 9,
  });
  t.like(merge(FILE, { 'no-storage': true }).channels[0]?.storage, { isAllowed: false });
  const one = `[channels.vm1]\naddress = "stdio:"\nstorage = false`;
  t.like(merge(one, { 'storage-socket': '/s' }).channels[0]?.storage, { isAllowed: true, socketPath: '/s' });
});

test('-c gives a channel of the file another address, or adds one', (t) => {
  const merged = merge(FILE, { channel: ['vm1=unix-listen:/run/other.sock', 'vm3=stdio:'] });
  t.deepEqual(
    merged.channels.map(({ label, address, waitMs }) => [label, address, waitMs]),
    [
      ['vm1', 'unix-listen:/run/other.sock', 3000],
      ['vm2', 'tcp-connect:127.0.0.1:9000', 7000],
      ['vm3', 'stdio:', 7000],
    ],
  );
  t.is(forwardsOf(merged, 'vm1').length, 4);
});

test('-o and -i are added, and take the place of those that they cannot stand beside', (t) => {
  const merged = merge(FILE, {
    outgoing: ['vm1/x:127.0.0.1:9022', 'vm1/any:127.0.0.1:0', 'ssh:/run/s.sock:vm2'],
    incoming: ['vm1/web:9090', 'vm2/web:9090'],
  });
  t.deepEqual(forwardsOf(merged, 'vm1'), [
    'any:127.0.0.1:0',
    'x:127.0.0.1:9022',
    'any:127.0.0.1:0',
    'db:unix:/run/db.sock',
    'web:127.0.0.1:9090',
  ]);
  t.deepEqual(forwardsOf(merged, 'vm2'), ['ssh:unix:/run/s.sock', 'web:127.0.0.1:9090']);
});

test('--vsock-port is for the listeners of the file too', (t) => {
  const file = `[channels.vm1]\naddress = "stdio:"\noutgoing = ["*:vsock-mux:/v,22=own"]`;
  t.deepEqual(forwardsOf(merge(file, { 'vsock-port': ['22=ssh', '80=web'] }), 'vm1'), ['*:vsock-mux:/v,22=own,80=web']);
});

const REFUSED: readonly (readonly [file: string | null, flags: Record<string, unknown>, message: string])[] = [
  [null, {}, '-c: the channel is missing; expected -c KIND:ADDRESS, such as -c unix-connect:/run/vm1.sock'],
  [
    null,
    { channel: ['stdio:', 'fd:3'] },
    '-c: there are two channels default; tell them apart with -c LABEL=KIND:ADDRESS',
  ],
  [
    FILE,
    { outgoing: 'ssh:9022' },
    '-o ssh:9022: which channel? There are: vm1, vm2; write vm1/ssh:9022 for the first of them',
  ],
  [
    FILE,
    { 'storage-socket': '/s' },
    '--storage-socket: several channels (vm1, vm2) cannot share it; say it in a --config, for one of them',
  ],
  [FILE, { 'vsock-port': '1=a' }, '--vsock-port: there is no -o *:vsock-mux:/path that it is for'],
  [FILE, { once: true }, '--once: it is for one channel, not for several, or a group'],
  [
    null,
    { channel: 'unix-connect:/run/*.sock', once: true },
    '--once: it is for one channel, not for several, or a group',
  ],
  [
    null,
    { channel: 'stdio:', key: '1f'.repeat(32) },
    '--key: expected the path of a file that has the key, not the key itself',
  ],
  [null, { channel: 'stdio:', key: '' }, '--key: its value is empty'],
  [null, { channel: 'stdio:', audit: 'audit.log' }, '--audit: the path of a file is absolute, and ends with its name'],
  [FILE, { json: true }, '--json: it says how --print-config prints, which is not there'],
  [FILE, { control: '/a', 'no-control': true }, '--no-control: cannot be used with --control'],
  [FILE, { channel: '' }, '-c: its value is empty'],
];

for (const [file, flags, message] of REFUSED) {
  test(`${file === null ? '' : 'a file and '}${JSON.stringify(flags)}`, (t) => {
    t.throws(() => merge(file, flags), { code: 'bad-argument', message });
  });
}

test('what a group forwards is a template', (t) => {
  const file = '[channels.vms]\naddress = "unix:///run/vms/*.sock"\noutgoing = ["ssh:/run/{channel}/ssh.sock"]';
  const merged = merge(file, { outgoing: 'x:127.0.0.1:0:vms', incoming: 'vms/log:file:/var/log/{channel}.log' });
  t.like(merged.channels[0], { label: 'vms', address: 'unix-connect:/run/vms/*.sock', forwards: [] });
  t.deepEqual(merged.channels[0]?.template, [
    { direction: 'outgoing', text: 'ssh:unix:/run/{channel}/ssh.sock' },
    { direction: 'outgoing', text: 'x:127.0.0.1:0' },
    { direction: 'incoming', text: 'log:file:/var/log/{channel}.log' },
  ]);
  const text = formatConfiguration(merged, 'toml');
  t.is(formatConfiguration(merge(text), 'toml'), text);
});

// Rules of egresses.

const egressOf = ({ channels }: Configuration) =>
  Object.fromEntries(channels.map(({ label, egress }) => [label, egress]));

const EGRESS = `
[egress.internet]
allow = ["deb.debian.org:80,443", "*.Ubuntu.com.:443", "{channel}.internal:443"]
deny = ["10.0.0.0/8:*"]

[egress.api]
allow = ["api.example.org:443"]

[channels.vm1]
address = "stdio:"

[channels.vm1.egress.internet]
allow = ["[2001:DB8::/32]:22", "{channel}.example.org:8000-8999"]
upstream = "http://10.0.0.1:3128/"

[channels.vm1.egress.db]
allow = ["192.0.2.1:5432"]

[channels.vm2]
address = "stdio:"

[channels.vms]
address = "unix-connect:/run/vms/*.sock"
egress.internet.deny = []
`;

test('what is said for all channels and what one says of its own are one, of which its own wins key by key', (t) => {
  const api = { allow: ['api.example.org:443'] };
  const all = {
    allow: ['deb.debian.org:80,443', '*.ubuntu.com:443', '{channel}.internal:443'],
    deny: ['10.0.0.0/8:*'],
  };
  const merged = merge(EGRESS);
  t.deepEqual(egressOf(merged), {
    vm1: {
      internet: {
        allow: ['[2001:db8::/32]:22', '{channel}.example.org:8000-8999'],
        deny: ['10.0.0.0/8:*'],
        upstream: '10.0.0.1:3128',
      },
      api,
      db: { allow: ['192.0.2.1:5432'] },
    },
    vm2: { internet: all, api },
    vms: { internet: { ...all, deny: [] }, api },
  });
  t.deepEqual(
    merged.channelDefaults.egress,
    { internet: all, api },
    'and a channel that is added later has those of all',
  );
});

test('nothing is printed of egresses where nothing is said', (t) => {
  const { channels } = describeConfiguration(merge('[channels.vm1]\naddress = "stdio:"')) as {
    channels: Record<string, object>;
  };
  t.false(Object.hasOwn(channels['vm1'] ?? {}, 'egress'));
});

test('--egress wins over the file, key by key, on every channel', (t) => {
  const merged = merge(EGRESS, { egress: ['internet:allow=a.example:80,443,deny=', 'new:allow=*:443'] });
  t.deepEqual(egressOf(merged)['vm1'], {
    internet: { allow: ['a.example:80,443'], deny: [], upstream: '10.0.0.1:3128' },
    api: { allow: ['api.example.org:443'] },
    db: { allow: ['192.0.2.1:5432'] },
    new: { allow: ['*:443'] },
  });
  t.deepEqual(egressOf(merged)['vm2']?.['new'], { allow: ['*:443'] });
});

for (const format of ['toml', 'json'] as const) {
  test(`what is in force as ${format} is a configuration that says the same`, (t) => {
    for (const flags of [
      {},
      { audit: '/a,,b,rotate=1M', key: 'a.key', 'peer-address': true },
      { outgoing: 'vm1/*:vsock-mux:/v,1=a', 'no-control': true, 'no-storage': true },
    ]) {
      const merged = merge(FILE, flags);
      const text = formatConfiguration(merged, format);
      const again = merge(text);
      // Settings for all channels are written with each of them.
      t.deepEqual({ ...again, channelDefaults: null }, { ...merged, channelDefaults: null } as never);
      t.is(formatConfiguration(again, format), text);
    }
    for (const file of [GUARDED, ALLOWING, EGRESS]) {
      const merged = merge(file, {});
      const again = merge(formatConfiguration(merged, format));
      t.deepEqual({ ...again, channelDefaults: null }, { ...merged, channelDefaults: null } as never);
    }
  });
}

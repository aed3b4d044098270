import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { withKeyFiles } from '../../cli/run/key-files.js';
import { parseRunFlags } from '../../cli/run/run-options.js';
import { parseChannel } from '../../lib/channel/address/address.js';
import { formatForwardSpec } from '../../lib/forward/spec.js';
import {
  type Configuration,
  describeConfiguration,
  type FileLayer,
  formatConfiguration,
} from '../../lib/settings/configuration.js';
import { parseDocument } from '../../lib/settings/file/document.js';
import { parseConfiguration } from '../../lib/settings/file/parse-configuration.js';
import { mergeConfiguration } from '../../lib/settings/merge.js';
import { temporaryFolder } from '../helpers/files.js';
import { givenIn } from '../helpers/given-options.js';

type Flags = Readonly<Record<string, unknown>>;

function read(text: string): FileLayer {
  const { layer, problems } = parseConfiguration([parseDocument(text, 'f')]);
  if (problems.length > 0) throw new Error(JSON.stringify(problems));
  return layer;
}

/** The effective configuration. */
const merge = (file: string | null, flags: Flags = {}): Configuration =>
  mergeConfiguration(file === null ? null : read(file), parseRunFlags(givenIn(flags)));

const forwardsOf = ({ channels }: Configuration, label: string): string[] =>
  (channels.find((channel) => channel.label === label)?.forwards ?? []).map((spec) => formatForwardSpec(spec));

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

test('flags only, with defaults for everything else', (t) => {
  t.deepEqual(merge(null, { channel: 'tcp://127.0.0.1:9000?streams=1024' }), {
    ...{ once: false, ready: 'any', logLevel: 'info', logFormat: 'text', logDetails: false },
    channelDefaults: { name: null, storage: {} },
    channels: [
      {
        ...{ label: 'default', address: parseChannel('tcp-connect:127.0.0.1:9000'), forwards: [], name: null },
        ...{ waitMs: 10_000, deadAfterMs: 30_000, bufferBytes: 1_048_576, insecure: false, keyFiles: [] },
        ...{
          peerAddress: false,
          followClock: null,
          freeze: false,
          reseed: false,
          announcePorts: null,
          forwardPorts: null,
          policies: {},
          egress: {},
        },
        ...{ exec: null, copy: null, storage: { isAllowed: true, socketPath: null, parallel: 1 } },
      },
    ],
  });
});

test('a file: a channel’s own settings override those for all, then the defaults of its kind; flags override each', (t) => {
  const merged = merge(FILE);
  const metrics = { host: '127.0.0.1', port: 9464 };
  t.like(merged, { name: 'host1', control: { path: '/run/a.sock' }, metrics, logLevel: 'error', logFormat: 'json' });
  t.like(merged.channels[0], {
    ...{
      label: 'vm1',
      address: { text: 'unix-connect:/run/vm1.sock' },
      name: 'guest',
      waitMs: 3000,
      deadAfterMs: 30_000,
    },
    storage: { isAllowed: true, socketPath: '/run/x.sock', parallel: 4 },
  });
  t.like(merged.channels[1], { label: 'vm2', name: 'host1', waitMs: 7000, deadAfterMs: 30_000 });
  const other = merge(FILE, {
    ...{ name: 'other', 'no-control': true, metrics: '127.0.0.1:1', ready: 'all', verbose: 2, 'log-format': 'text' },
    ...{ wait: '0', 'dead-after': '0', insecure: true },
  });
  t.like(other, { name: 'other', control: false, metrics: { ...metrics, port: 1 }, ready: 'all', logLevel: 'debug' });
  t.like(other, { logDetails: true, logFormat: 'text' });
  const settings = { waitMs: 0, deadAfterMs: null, insecure: true };
  // The name of the process is not a setting of a channel.
  t.like(other.channels[0], { name: 'guest', ...settings });
  t.like(other.channels[1], { name: 'other', ...settings });
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

test('keys, rules and the audit log: a rule is merged key by key', (t) => {
  const { channels, channelDefaults, audit } = merge(GUARDED);
  const ssh = { channels: ['vm1'], streams: 10, idleTimeoutMs: 300_000 };
  t.like(channels[0], { keyFiles: ['/vm1.key', '/old.key'], peerAddress: true });
  t.deepEqual(channels[0]?.policies, { ssh: { ...ssh, streams: 2 }, web: { bytesPerSecond: 1_000_000 } });
  t.like(channels[1], { keyFiles: ['/all.key'], peerAddress: false, policies: { ssh } });
  t.like(channelDefaults, { keyFiles: ['/all.key'], policies: { ssh } });
  t.deepEqual(audit, { path: '/var/log/audit.log', rotation: null });
  const flags = { key: ['/a.key', '/b.key'], 'peer-address': true, audit: '/b.log,rotate=1M' };
  const other = merge(GUARDED, flags);
  for (const channel of other.channels) t.like(channel, { keyFiles: flags.key, peerAddress: true });
  t.deepEqual(other.audit, { path: '/b.log', rotation: { maxBytes: 2 ** 20, keep: 5 } });
});

test('credentials named vproxy.key are keys if no keys are set; a name without a slash is a credential first', (t) => {
  const folder = temporaryFolder(t);
  for (const name of ['vproxy.key.old', 'vproxy.key', 'vproxy.keys', 'other.key', 'a.vproxy.key']) {
    writeFileSync(join(folder, name), '');
  }
  const empty = join(folder, 'empty');
  mkdirSync(empty);
  const keysOf = (file: string | null, flags: Flags, credentials: string | null = folder) => {
    const layers = withKeyFiles(file === null ? null : read(file), parseRunFlags(givenIn(flags)), credentials);
    return mergeConfiguration(...layers).channels.map(({ keyFiles }) => keyFiles);
  };
  const own = [join(folder, 'vproxy.key'), join(folder, 'vproxy.key.old')];
  const other = join(folder, 'other.key');
  const named = '[channels.vm1]\naddress = "stdio:"\nkeys = ["other.key", "./other.key", "/etc/other.key", "none.key"]';
  const file = `${named}\n[channels.vm2]\naddress = "fd:3"\nkeys = []\n[channels.vm3]\naddress = "fd:4"`;
  t.deepEqual(keysOf(null, { channel: 'stdio:' }), [own]);
  t.deepEqual(keysOf(file, {}), [[other, './other.key', '/etc/other.key', 'none.key'], [], own]);
  t.deepEqual(keysOf(`keys = ["other.key"]\n${file}`, {}).slice(1), [[], [other]]);
  t.deepEqual(keysOf(file, { key: ['other.key', 'x'] }), Array(3).fill([other, 'x']));
  for (const none of [null, empty, '/nonexistent']) {
    t.deepEqual(keysOf(null, { channel: 'stdio:' }, none), [[]]);
    t.deepEqual(keysOf(null, { channel: 'stdio:', key: 'a.key' }, none), [['a.key']]);
  }
  // It cannot be listed; without a key, any peer would do.
  const unlistable = join(folder, 'vproxy.key');
  t.throws(() => keysOf(null, { channel: 'stdio:' }, unlistable), {
    code: 'bad-file',
    message: /DIRECTORY: .*ENOTDIR/,
  });
  t.deepEqual(keysOf(null, { channel: 'stdio:', key: '/a' }, unlistable), [['/a']]);
  t.deepEqual(keysOf('keys = []\n[channels.vm1]\naddress = "stdio:"', {}, unlistable), [[]]);
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

test('commands and copies: nothing is allowed by default, a channel overrides the file’s setting for all, flags are for every channel', (t) => {
  const permissionsOf = ({ channels }: Configuration) => channels.map(({ exec, copy }) => ({ exec, copy }));
  const nothing = { exec: null, copy: null };
  t.deepEqual(permissionsOf(merge(FILE)), [nothing, nothing]);
  t.deepEqual(permissionsOf(merge(ALLOWING)), [
    { exec: { commands: 'any' }, copy: { root: '/srv/in' } },
    nothing,
    { exec: { commands: ['/usr/bin/uname'] }, copy: { root: null } },
    { exec: null, copy: { root: null } },
  ]);
  const allowed = { exec: { commands: ['/bin/a,b', '/usr/bin/id'] }, copy: { root: '/srv/out' } };
  const merged = merge(ALLOWING, { 'allow-exec': '/bin/a,,b,/usr//bin/id', 'allow-copy': '/srv/./out/' });
  t.deepEqual(permissionsOf(merged), [allowed, allowed, allowed, allowed]);
  t.like(merged.channelDefaults, allowed, 'and for those that are added later');
});

test('flags for storage keep the file’s other storage settings', (t) => {
  const storageOf = (file: string, flags: Flags) => merge(file, flags).channels[0]?.storage;
  const whole = { isAllowed: true, socketPath: '/run/x.sock', parallel: 9 };
  t.deepEqual(storageOf(FILE, { 'storage-parallel': '9' }), whole);
  t.like(storageOf(FILE, { 'no-storage': true }), { isAllowed: false });
  const one = `[channels.vm1]\naddress = "stdio:"\nstorage = false`;
  t.like(storageOf(one, { 'storage-socket': '/s' }), { isAllowed: true, socketPath: '/s' });
});

test('-c changes the address of a channel of the file, or adds one; -o and -i replace the forwards that they exclude', (t) => {
  const merged = merge(FILE, {
    channel: ['vm1=unix-listen:/run/other.sock', 'vm3=stdio:'],
    outgoing: ['vm1/x:127.0.0.1:9022', 'vm1/any:127.0.0.1:0', 'vm2/ssh:/run/s.sock'],
    incoming: ['vm1/web:9090', 'vm2/web:9090'],
  });
  t.deepEqual(
    merged.channels.map(({ label, address, waitMs }) => [label, address.text, waitMs]),
    [
      ['vm1', 'unix-listen:/run/other.sock', 3000],
      ['vm2', 'tcp-connect:127.0.0.1:9000', 7000],
      ['vm3', 'stdio:', 7000],
    ],
  );
  t.deepEqual(forwardsOf(merged, 'vm1'), [
    ...['any:127.0.0.1:0', 'x:127.0.0.1:9022', 'any:127.0.0.1:0'],
    ...['db:unix:/run/db.sock', 'web:127.0.0.1:9090'],
  ]);
  t.deepEqual(forwardsOf(merged, 'vm2'), ['ssh:unix:/run/s.sock', 'web:127.0.0.1:9090']);
});

const ONE = { channel: 'stdio:' };

const REFUSED: readonly (readonly [file: string | null, flags: Flags, beginning: string])[] = [
  [null, {}, '-c: missing channel; expected -c KIND:ADDRESS or VPROXY_CHANNEL, such as -c unix-connect:/run/vm1.sock'],
  [null, { channel: ['stdio:', 'fd:3'] }, '-c: duplicate label "default"; label each channel with -c LABEL='],
  [FILE, { outgoing: 'ssh:9022' }, '-o ssh:9022: missing channel label; defined: vm1, vm2; for the first one write'],
  [FILE, { 'storage-socket': '/s' }, '--storage-socket: cannot be shared by several channels (vm1, vm2); set'],
  [FILE, { once: true }, '--once: needs exactly one channel, not several or a group'],
  [null, { channel: 'unix-connect:/run/*.sock', once: true }, '--once: needs exactly one channel, not several or a'],
  [null, { ...ONE, key: '1f'.repeat(32) }, '--key: expected the path of a key file, not the key itself'],
  [null, { ...ONE, key: '' }, '--key: empty value'],
  [null, { ...ONE, audit: 'audit.log' }, '--audit: the path of a file must be absolute and end with the file name'],
  [FILE, { json: true }, '--json: only allowed with --print-config'],
  [FILE, { control: '/a', 'no-control': true }, '--no-control: not allowed with --control'],
  [FILE, { channel: '' }, '-c: empty value'],
];

test('flags that contradict each other, or the file, are rejected', (t) => {
  for (const [file, flags, beginning] of REFUSED) {
    const { message } = t.throws(() => merge(file, flags), { code: 'bad-argument' });
    t.is(message.slice(0, beginning.length), beginning);
  }
});

test('the forwards of a group are a template', (t) => {
  const file = '[channels.vms]\naddress = "unix:///run/vms/*.sock"\noutgoing = ["ssh:/run/{channel}/ssh.sock"]';
  const merged = merge(file, { outgoing: 'vms/x:127.0.0.1:0', incoming: 'vms/log:file:/var/log/{channel}.log' });
  t.like(merged.channels[0], { label: 'vms', address: { text: 'unix-connect:/run/vms/*.sock' }, forwards: [] });
  t.deepEqual(merged.channels[0]?.template, [
    { direction: 'outgoing', text: 'ssh:unix:/run/{channel}/ssh.sock' },
    { direction: 'outgoing', text: 'x:127.0.0.1:0' },
    { direction: 'incoming', text: 'log:file:/var/log/{channel}.log' },
  ]);
});

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

test('an egress for all channels and a channel’s own are merged key by key; --egress overrides both', (t) => {
  const egressOf = ({ channels }: Configuration) =>
    Object.fromEntries(channels.map(({ label, egress }) => [label, egress]));
  const api = { allow: ['api.example.org:443'] };
  const db = { allow: ['192.0.2.1:5432'] };
  const internet = {
    allow: ['deb.debian.org:80,443', '*.ubuntu.com:443', '{channel}.internal:443'],
    deny: ['10.0.0.0/8:*'],
  };
  const own = { allow: ['[2001:db8::/32]:22', '{channel}.example.org:8000-8999'], upstream: '10.0.0.1:3128' };
  const merged = merge(EGRESS);
  t.deepEqual(egressOf(merged), {
    vm1: { internet: { ...internet, ...own }, api, db },
    vm2: { internet, api },
    vms: { internet: { ...internet, deny: [] }, api },
  });
  t.deepEqual(merged.channelDefaults.egress, { internet, api }, 'and a channel that is added later has those of all');
  const flagged = egressOf(merge(EGRESS, { egress: ['internet:allow=a.example:80,443,deny=', 'new:allow=*:443'] }));
  const added = { allow: ['*:443'] };
  t.deepEqual(flagged['vm1'], {
    ...{ internet: { ...own, allow: ['a.example:80,443'], deny: [] }, api, db },
    new: added,
  });
  t.deepEqual(flagged['vm2']?.['new'], added);
});

test('the effective configuration is printed as an equivalent file, without unset keys', (t) => {
  const flags = [
    { audit: '/a,,b,rotate=1M', key: 'a.key', 'peer-address': true },
    { outgoing: 'vm1/*:vsock-mux:/v,1=a', 'no-control': true, 'no-storage': true },
  ];
  const group = '[channels.vms]\naddress = "unix:///run/vms/*.sock"\noutgoing = ["ssh:/run/{channel}/ssh.sock"]';
  const all = [FILE, GUARDED, ALLOWING, EGRESS, group].map((file) => merge(file));
  for (const merged of [...all, ...flags.map((each) => merge(FILE, each))]) {
    for (const format of ['toml', 'json'] as const) {
      const text = formatConfiguration(merged, format);
      const again = merge(text);
      // Settings for all channels are written with each of them.
      t.deepEqual({ ...again, channelDefaults: null }, { ...merged, channelDefaults: null } as never);
      t.is(formatConfiguration(again, format), text);
    }
  }
  const { channels } = describeConfiguration(merge('[channels.vm1]\naddress = "stdio:"')) as {
    channels: Record<string, object>;
  };
  t.false(Object.hasOwn(channels['vm1'] ?? {}, 'egress'));
});

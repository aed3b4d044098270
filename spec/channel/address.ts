/** Channels as users write them: the meaning of each text, and rejected texts. */
import test from 'ava';
import fc from 'fast-check';
import { parseChannel } from '../../lib/channel/address/address.js';
import { applyOptions } from '../../lib/channel/address/options.js';
import { QEMU_OPTIONS } from '../../lib/channel/address/qemu.js';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { VproxyError } from '../../lib/errors.js';
import { fixtureRows } from '../helpers/files.js';

const FRAME = { frameBytes: 4096 };
const SMALL = { ...FRAME, inFlightBytes: 4096 };
const FULL = { inFlightBytes: 65_536, integrity: 'full' };
const NINE = { streams: 9 };
const domain = (name: string, port: string | null = null, uri: string | null = null) => ({ domain: name, port, uri });

/** Texts, their meaning, the canonical text if different, and the traits that differ from the kind's. */
const MEANS: readonly (readonly [text: string, address: unknown, canonical?: string | null, traits?: object])[] = [
  ['unix-connect:/run/vm1.sock', '/run/vm1.sock'],
  ['unix-connect:/run/vm1.sock:-', '/run/vm1.sock', 'unix-connect:/run/vm1.sock'],
  ['unix-listen:/a,,b,,,frame=4096', '/a,b,', null, SMALL],
  ['unix-connect:/a,in-flight=1048576,frame=4096', '/a', 'unix-connect:/a,frame=4096,in-flight=1048576', FRAME],
  ['unix-connect:/odd:-:-', '/odd:-'],
  ['tcp-connect:localhost:9000', { host: 'localhost', port: 9000 }],
  ['tcp-connect:[fe80::1%eth0]:1', { host: 'fe80::1%eth0', port: 1 }],
  ['tcp-listen:[::1]:0', { host: '::1', port: 0 }],
  ['virtserial-open:/dev/v/x.0', '/dev/v/x.0'],
  ['virtserial-open:/dev/v/x.0:-', '/dev/v/x.0', 'virtserial-open:/dev/v/x.0'],
  ['virtserial-open:com.example.0', 'com.example.0'],
  ['unix-connect:/a,integrity=full,in-flight=65536', '/a', 'unix-connect:/a,in-flight=65536,integrity=full', FULL],
  ['unix-connect:/a,frame=131072,integrity=frame', '/a', 'unix-connect:/a'],
  ['unix-connect:/a,streams=1024', '/a', 'unix-connect:/a'],
  ['unix-listen:/a,streams=9,frame=4096', '/a', 'unix-listen:/a,frame=4096,streams=9', { ...SMALL, ...NINE }],
  ['unix-listen:/a,exclusive', '/a', null, { isExclusive: true }],
  ['vsock-listen:1,exclusive=on,frame=4096', 1, 'vsock-listen:1,frame=4096,exclusive', { ...SMALL, isExclusive: true }],
  ['tty-open:/d,streams=9,baud=9600', { path: '/d', baud: 9600 }, 'tty-open:/d,baud=9600,streams=9', NINE],
  ['tty-open:/dev/ttyS1', { path: '/dev/ttyS1', baud: null }],
  ['tty-open:/d:-,in-flight=4096,baud=9600', { path: '/d', baud: 9600 }, 'tty-open:/d,baud=9600'],
  ['tty-open:/a,integrity=frame', { path: '/a', baud: null }, null, { integrity: 'frame' }],
  ['pipe-open:/run/vm1:-', '/run/vm1', 'pipe-open:/run/vm1'],
  ['stdio:', ''],
  ['stdio:,integrity=full', '', null, { integrity: 'full' }],
  ['fd:3', 3],
  ['exec:ssh -o A=b,,c host', 'ssh -o A=b,c host'],
  ['exec:ssh host "vproxy -c stdio:",frame=4096', 'ssh host "vproxy -c stdio:"', null, SMALL],
  ['vsock-mux-connect:/tmp/vmm.vsock:1234', { path: '/tmp/vmm.vsock', port: 1234 }],
  ['vsock-mux-connect:/tmp/a,,b:c:4294967295', { path: '/tmp/a,b:c', port: 4_294_967_295 }],
  ['vsock-mux-listen:/tmp/vmm.vsock_1234', '/tmp/vmm.vsock_1234'],
  ['vsock-connect:2:1234', { cid: 2, port: 1234 }],
  ['vsock-listen:0', 0],
  ['libvirt:vm1', domain('vm1')],
  ['libvirt:vm1:org.example.0', domain('vm1', 'org.example.0')],
  ['libvirt:my vm:a b', domain('my vm', 'a b')],
  ['libvirt:-x:-y', domain('-x', '-y')],
  ['libvirt:db::1', domain('db:1')],
  ['libvirt:db::1:org::vproxy', domain('db:1', 'org:vproxy')],
  ['libvirt:a:::b', domain('a:', 'b')],
  ['libvirt:a,,b:c,,d', domain('a,b', 'c,d')],
  ['libvirt:v,frame=4096,uri=x:///a,,b', domain('v', null, 'x:///a,b'), 'libvirt:v,uri=x:///a,,b,frame=4096', SMALL],
  ...[
    ...['qemu:///system', 'qemu+unix:///system?socket=/s', 'qemu+tcp://[::1]:16509/system'],
    ...['qemu+tcp://localhost/system', 'mine'],
  ].map((uri) => [`libvirt:vm1,uri=${uri}`, domain('vm1', null, uri)] as const),
];

for (const [text, address, canonical = null, traits = {}] of MEANS) {
  test(`${text} is parsed`, (t) => {
    const parsed = parseChannel(text);
    t.is(parsed.text, canonical ?? text);
    t.deepEqual(parseChannel(parsed.text), parsed);
    t.true(parsed.kind === CHANNEL_KINDS.get(parsed.kindName));
    t.deepEqual(parsed.traits, { ...parsed.kind.traits, ...traits });
    t.deepEqual(parsed.address, address);
  });
}

for (const [meaning, ...texts] of fixtureRows('channel-spellings.txt')) {
  for (const text of texts) {
    test(`${text} is ${meaning}`, (t) => {
      t.deepEqual(parseChannel(text), parseChannel(meaning));
      t.is(parseChannel(text).text, meaning);
    });
  }
}

const LONG = `/${'x'.repeat(107)}`;

for (const [says, ...texts] of [
  ['108 bytes (max 107)', `unix-listen:${LONG}`, `unix://${LONG}`, `qemu:unix:${LONG}`],
  ...fixtureRows('refused-channels.txt'),
] as const) {
  for (const text of texts) {
    test(`${JSON.stringify(text)} is refused`, (t) => {
      const { message } = t.throws(() => parseChannel(text), { instanceOf: VproxyError, code: 'bad-argument' });
      t.true(message.includes(says), message);
      t.true(message.startsWith('channel "'), message);
      t.false(message.includes('\n'));
    });
  }
}

/** Arbitrary texts of these characters. */
const madeOf = (...unit: readonly string[]) =>
  fc.string({ minLength: 1, maxLength: 20, unit: fc.constantFrom('/', 'a', ',', ':', '-', '=', 'é', ...unit) });

test('every path means the same as a URI and in the short form', (t) => {
  // Without dots, which a URL would resolve, and without two leading slashes.
  const path = madeOf(' ', '#', '?', '%', '*', '{').filter((text) => !text.startsWith('/'));
  fc.assert(
    fc.property(fc.constantFrom('unix-connect', 'unix-listen', 'pipe-open'), path, (kind, text) => {
      const uri = parseChannel(`${kind}:///${text.split('/').map(encodeURIComponent).join('/')}`);
      t.is(uri.address, `/${text}`);
      t.deepEqual(parseChannel(uri.text), uri);
    }),
  );
});

test('every path means the same in QEMU syntax and in the short form', (t) => {
  fc.assert(
    fc.property(madeOf('*'), fc.boolean(), fc.boolean(), (file, listens, isLegacy) => {
      const start = isLegacy ? 'unix:/' : 'socket,path=/';
      const end = listens ? ',server=on,wait=off' : ',reconnect=1';
      const parsed = parseChannel(`qemu:${start}${file.replaceAll(',', ',,')}${end}`);
      t.is(parsed.kindName, listens ? 'unix-connect' : 'unix-listen');
      t.is(parsed.address, `/${file}`.replace(/^\/+/, '/'));
      t.deepEqual(parseChannel(parsed.text), parsed);
    }),
  );
});

test('the traits of the kinds', (t) => {
  for (const [name, { traits }] of CHANNEL_KINDS) {
    const isLine = name === 'tty-open';
    t.is(traits.frameBytes, isLine ? 4096 : 131_072, name);
    t.is(traits.inFlightBytes, isLine ? 4096 : 1_048_576, name);
    t.is(traits.streams, 1024, name);
    t.is(traits.integrity, isLine ? 'full' : 'frame', name);
    t.is(traits.deadAfterMs, name.startsWith('tcp-') ? 30_000 : null, name);
    t.is(traits.resumeMs, /^(tcp-|vsock-|exec$)/.test(name) ? 60_000 : 0, name);
  }
});

const OPTIONS = '-T -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3';
for (const [uri, words, options = ''] of [
  ['ssh://host2/run/vm1.sock', "-- host2 'socat - UNIX-CONNECT:/run/vm1.sock'"],
  ['ssh://root@host2:2222/s?streams=9', "-p 2222 -l root -- host2 'socat - UNIX-CONNECT:/s'", ',streams=9'],
  ['ssh://[fe80::1]/x', "-- fe80::1 'socat - UNIX-CONNECT:/x'"],
  ['ssh://a%20b%27%3bc@host/x', "-l 'a b'\\'';c' -- host 'socat - UNIX-CONNECT:/x'"],
] as const) {
  test(`${uri} runs ssh`, (t) => {
    const parsed = parseChannel(uri);
    t.is(parsed.address, `ssh ${OPTIONS} ${words}`);
    t.deepEqual(parseChannel(parsed.text), parsed);
    t.true(parsed.text.endsWith(options));
  });
}

test('no QEMU option is also an option of a channel', (t) => {
  for (const [name, kind] of CHANNEL_KINDS) {
    for (const option of [...QEMU_OPTIONS.flags, ...QEMU_OPTIONS.values]) {
      t.throws(() => applyOptions(kind, null, [`${option}=on`]), { message: /^unknown option/ }, `${name}: ${option}`);
    }
  }
});

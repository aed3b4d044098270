/** Channels as people write them: what each text means, and what is refused. */
import test from 'ava';
import fc from 'fast-check';
import { parseChannel } from '../../lib/channel/address/address.js';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { VproxyError } from '../../lib/errors.js';

const SMALL = { frameBytes: 4096, inFlightBytes: 4096 };
const FULL = { inFlightBytes: 65_536, integrity: 'full' };
const NINE = { streams: 9 };
const domain = (name: string, port: string | null = null, uri: string | null = null) => ({ domain: name, port, uri });

/** Texts, what they mean, the text that is canonical where it is another, and the traits that differ from the kind's. */
const MEANS: readonly (readonly [text: string, address: unknown, canonical?: string | null, traits?: object])[] = [
  ['unix-connect:/run/vm1.sock', '/run/vm1.sock'],
  ['unix-connect:/run/vm1.sock:-', '/run/vm1.sock', 'unix-connect:/run/vm1.sock'],
  ['unix-listen:relative', 'relative'],
  ['unix-listen:/a,,b,,,frame=4096', '/a,b,', null, SMALL],
  [
    'unix-connect:/a,in-flight=1048576,frame=4096',
    '/a',
    'unix-connect:/a,frame=4096,in-flight=1048576',
    { frameBytes: 4096 },
  ],
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
  test(`${text} is understood`, (t) => {
    const parsed = parseChannel(text);
    t.is(parsed.text, canonical ?? text);
    t.deepEqual(parseChannel(parsed.text), parsed);
    t.true(parsed.kind === CHANNEL_KINDS.get(parsed.kindName));
    t.deepEqual(parsed.traits, { ...parsed.kind.traits, ...traits });
    t.deepEqual(parsed.address, address);
  });
}

const KINDS = 'unix-connect, unix-listen, tcp-connect, tcp-listen, virtserial-open';

/** Texts that are refused, and what is said. */
const REFUSED: readonly (readonly [text: string, says: string])[] = [
  ['', KINDS],
  ['/run/vm1.sock', 'there is no kind before the path; did you mean unix-connect:/run/vm1.sock?'],
  ['UNIX-connect:/a', 'there is no kind "UNIX-connect"; did you mean unix-connect:?'],
  ['toString:/a', KINDS],
  ['unix-connect:', 'a path is missing'],
  ['unix-connect::-', 'a path is missing'],
  ['virtserial-open:,frame=4096', 'a path is missing'],
  [`unix-listen:/${'x'.repeat(107)}`, '108 bytes, the system allows 107'],
  ['tcp-connect:9000', 'is not HOST:PORT'],
  ['tcp-connect::9000', 'is not HOST:PORT'],
  ['tcp-connect:host:0', 'a port from 1 to 65535'],
  ['tcp-listen:host:65536', 'a port from 0 to 65535'],
  ['tcp-listen:host:1e3', 'is not HOST:PORT'],
  ['tcp-connect:::1:9000', 'IPv6 address in brackets'],
  ['tcp-connect:[localhost]:9000', 'is not HOST:PORT'],
  ['tcp-connect:[::1]', 'is not HOST:PORT'],
  ['unix-connect:/a,frame=4095', 'a number of bytes from 4096 to 1048576'],
  ['unix-connect:/a,frame=0x2000', 'a number of bytes from 4096 to 1048576'],
  ['unix-connect:/a,in-flight=', 'a number of bytes from 1024 to 1073741824'],
  ['unix-connect:/a,integrity=yes', 'should be frame or full'],
  ['virtserial-open:com.example.0,integrity=off', 'should be frame or full'],
  ['unix-connect:/a,streams=0', 'a number from 1 to 1048576'],
  ['unix-connect:/a,streams=1048577', 'a number from 1 to 1048576'],
  ['unix-connect:/a,streams=', 'a number from 1 to 1048576'],
  ['unix-connect:/a,streams=9,streams=9', 'has the option streams twice'],
  ['unix-connect:/a,integrity', 'should be frame or full'],
  ['unix-connect:/a,frames=4096', 'no option "frames"; did you mean frame?'],
  ['unix-connect:/a,', 'has no option ""'],
  ['unix-connect:/a,frame=4096,frame=4096', 'has the option frame twice'],
  ['unix-connect:/a,x\n=1', 'no option \"x\\n\"'],
  ['tty-open:/dev/ttyS1,baud=115201', 'baud=115201, which should be one of 300, 600,'],
  ['tty-open:/dev/ttyS1,baud=', 'which should be one of'],
  ['tty-open:/dev/ttyS1,baud=9600,baud=9600', 'has the option baud twice'],
  ['tty-open:/dev/ttyS1,speed=9600', 'there are: baud, frame, in-flight, integrity, streams'],
  ['unix-connect:/a,baud=9600', 'no option "baud"; there are: frame, in-flight, integrity, streams'],
  ['stdio:/dev/tty', 'nothing but options follows the colon'],
  ['fd:', 'the number of a descriptor'],
  ['fd:2', 'taken for the log'],
  ['fd:03', 'the number of a descriptor'],
  ['fd:-1', 'the number of a descriptor'],
  ['exec: ', 'a command is missing'],
  ['libvirt:', 'the name of a domain is missing'],
  ['libvirt:vm1:', 'the name of a port is missing'],
  ['libvirt:vm1:a:b', 'a colon in a name is written ::'],
  ['libvirt://vm1', 'has no slashes'],
  ['libvirt:vm\n1', 'no control characters'],
  ['libvirt:vm1,uri=', 'a libvirt URI of this machine'],
  ['libvirt:vm1,uri=qemu+ssh://host2/system', 'a libvirt URI of this machine'],
  ['libvirt:vm1,uri=qemu+ssh://root@192.0.2.1:22/system', 'a libvirt URI of this machine'],
  ['libvirt:vm1,uri=a b', 'a libvirt URI of this machine'],
  ['libvirt:vm1,integrity=off', 'should be frame or full'],
  ['vsock-mux-connect:/tmp/vmm.vsock', ''],
  ['vsock-mux-connect:/tmp/vmm.vsock:4294967296', ''],
  ['vsock-mux-connect::1', ''],
  ['vsock-connect:1234', ''],
  ['vsock-connect:4294967295:1', ''],
  ['vsock-connect:2:', ''],
  ['vsock-listen:2:1234', ''],
  ['vsock-listen:', ''],
  ['vsock-listen:4294967295', ''],
];

for (const [text, says] of REFUSED) {
  test(`${JSON.stringify(text)} is refused`, (t) => {
    const { message } = t.throws(() => parseChannel(text), { instanceOf: VproxyError, code: 'bad-argument' });
    t.true(message.includes(says), message);
    t.true(message.startsWith('channel "'), message);
    t.false(message.includes('\n'));
  });
}

test('an address with options becomes a text that means the same', (t) => {
  const path = fc
    .string({ minLength: 1, maxLength: 20, unit: fc.constantFrom('/', 'a', ',', ':', '-', '=', ' ', 'é') })
    // A text that begins like this is a URI.
    .filter((text) => text !== ':-' && !text.startsWith('//'));
  const options = fc.record(
    {
      frame: fc.oneof(fc.constant(4096), fc.integer({ min: 4096, max: 1_048_576 })),
      integrity: fc.constantFrom('frame', 'full'),
      'in-flight': fc.oneof(fc.constant(1_048_576), fc.integer({ min: 1024, max: 2 ** 30 })),
      streams: fc.oneof(fc.constant(1024), fc.integer({ min: 1, max: 2 ** 20 })),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(
      fc.constantFrom('unix-connect', 'unix-listen', 'virtserial-open', 'pipe-open'),
      path,
      options,
      (name, file, asked) => {
        const tail = Object.entries(asked).map(([key, value]) => `,${key}=${value}`);
        const parsed = parseChannel(`${name}:${file.replaceAll(',', ',,')}:-${tail.join('')}`);
        t.is(parsed.address, file);
        t.deepEqual(parseChannel(parsed.text), parsed);
      },
    ),
  );
});

test('every TCP address becomes a text that means the same', (t) => {
  const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
  fc.assert(
    fc.property(host, fc.integer({ min: 1, max: 65_535 }), (name, port) => {
      const parsed = parseChannel(`tcp-connect:${name.includes(':') ? `[${name}]` : name}:${port}`);
      t.deepEqual(parsed.address, { host: name, port });
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
    t.is(traits.leadsToHost, isLine || name === 'virtserial-open', name);
  }
});

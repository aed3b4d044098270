/** Channels as users write them: the meaning of each text, and rejected texts. */
import test from 'ava';
import fc from 'fast-check';
import { parseChannel } from '../../lib/channel/address/address.js';
import { applyOptions } from '../../lib/channel/address/options.js';
import { QEMU_OPTIONS } from '../../lib/channel/address/qemu.js';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { VproxyError } from '../../lib/errors.js';

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

/** Other spellings, by canonical text. */
const SAME: readonly (readonly [meaning: string, ...texts: string[]])[] = [
  // URIs.
  ['unix-connect:/run/vm1.sock', 'unix:///run/vm1.sock'],
  ['unix-listen:/run/vm1.sock', 'unix-listen:///run/vm1.sock'],
  ['unix-connect:/run/vm1.sock,frame=4096,integrity=full', 'unix:///run/vm1.sock?frame=4096&integrity=full'],
  ['unix-connect:/run/vms/*.sock', 'unix:///run/vms/*.sock'],
  ['unix-connect:/a b,,c,,d#?%', 'unix:///a%20b%2cc,d%23%3f%25?'],
  ['unix-connect:/run//x', 'unix:////run//x'],
  ['unix-connect:/odd:-:-', 'unix:///odd:-'],
  ['tcp-connect:localhost:9000', 'tcp://localhost:9000'],
  ['tcp-connect:[::1]:9000,streams=20000', 'tcp://[::1]:9000/?streams=20000'],
  ['tcp-listen:127.0.0.1:0', 'tcp-listen://127.0.0.1:0'],
  ['virtserial-open:/dev/virtio-ports/org.vproxy.0', 'virtserial:///dev/virtio-ports/org.vproxy.0'],
  ['virtserial-open:org.vproxy.0', 'virtserial://org.vproxy.0'],
  ['tty-open:/dev/ttyS1,baud=115200', 'tty:///dev/ttyS1?baud=115200'],
  ['pipe-open:/run/vm1.pipe', 'pipe:///run/vm1.pipe', 'qemu:pipe:/run/vm1.pipe', 'qemu:pipe,path=/run/vm1.pipe,id=c0'],
  ['stdio:,frame=4096', 'stdio://?frame=4096'],
  ['fd:3', 'fd://3'],
  ['vsock-connect:2:1234', 'vsock://2:1234'],
  ['vsock-connect:3:4294967294,integrity=full', 'vsock://3:4294967294?integrity=full'],
  ['vsock-listen:4294967294', 'vsock-listen://4294967294'],
  ['vsock-mux-connect:/tmp/vmm.vsock:1234', 'vsock-mux:///tmp/vmm.vsock:1234'],
  ['vsock-mux-listen:/tmp/vmm.vsock_1234', 'vsock-mux-listen:///tmp/vmm.vsock_1234'],
  // Not a URI: the command begins with two slashes.
  ['exec://bin/true', 'exec://bin/true'],
  // QEMU chardevs: where QEMU listens, this side connects.
  ['unix-connect:/s', 'qemu:unix:/s,server,nowait', 'qemu:unix:/s,server=yes,wait'],
  ['unix-connect:/s', 'qemu:socket,path=/s,server=on,wait=off,id=c0', 'qemu:backend=socket,path=/s,server=on'],
  ['unix-connect:/s', 'qemu:socket,id=c0,server=on,path=/s,logfile=/l,logappend=on'],
  ['unix-connect:/s', 'qemu:disconnected:unix:/s,server=on'],
  ['unix-connect:/s', 'qemu:socket,path=/s,server=on,abstract=off,telnet=no,mux=false'],
  ['tcp-connect:localhost:5000', 'qemu:tcp:localhost:5000,server,nowait,nodelay'],
  ['tcp-connect:vm.example:5000', 'qemu:socket,host=vm.example,port=5000,server=on,reconnect=0'],
  // The unspecified address includes the loopback.
  ['tcp-connect:127.0.0.1:5000', 'qemu:tcp::5000,server', 'qemu:socket,host=,port=5000,server=on'],
  ['tcp-connect:127.0.0.1:5000', 'qemu:socket,host=0.0.0.0,port=5000,server=on'],
  ['tcp-connect:127.0.0.1:5000', 'qemu:socket,host=,port=5000,server=on,ipv4=on,ipv6=on'],
  ['tcp-connect:[::1]:5000', 'qemu:socket,host=::1,port=5000,server=on,wait=off'],
  ['tcp-connect:[::1]:5000', 'qemu:socket,host=::,port=5000,server=on', 'qemu:socket,host=,port=5000,server=on,noipv4'],
  // Where QEMU connects, this side listens.
  ['unix-listen:/s', 'qemu:unix:/s', 'qemu:unix:/s,noserver', 'qemu:socket,path=/s,reconnect=10'],
  ['unix-listen:/s', 'qemu:socket,path=/s,server=off,reconnect-ms=500', 'qemu:socket,path=/s,server=on,server=off'],
  ['tcp-listen:127.0.0.1:50000', 'qemu:socket,host=127.0.0.1,port=50000,reconnect=10'],
  ['tcp-listen:127.0.0.1:50000', 'qemu:socket,host=0.0.0.0,port=50000'],
  ['tcp-listen:localhost:50000', 'qemu:tcp:localhost:50000'],
  ['tty-open:/dev/pts/3', 'qemu:pty:/dev/pts/3'],
  ['tty-open:/run/vm1.pty,baud=115200', 'qemu:pty,id=c0,path=/run/vm1.pty,baud=115200'],
  // As pasted by users.
  [
    'unix-connect:/s',
    'qemu:-chardev socket,path=/s,server=on,wait=off,id=c0 \\',
    'qemu:-serial unix:/s,server,nowait\n',
  ],
  ['unix-connect:/run/vm 1.sock', "qemu:-chardev 'socket,path=/run/vm 1.sock,server=on,wait=off'"],
  ['pipe-open:/run/vm1.pipe', 'qemu: --chardev="pipe,path=/run/vm1.pipe" '],
  // Both double commas, and each option belongs to one of them.
  ['unix-connect:/a,,b,,', 'qemu:unix:/a,,b,,,server'],
  ['unix-connect:/a:-:-', 'qemu:socket,path=/a:-,server=on'],
  ['unix-connect:/a//b', 'qemu:socket,path=//a//b,server=on'],
  ['unix-connect:/a,frame=4096,integrity=full', 'qemu:unix:/a,frame=4096,server,integrity=full,nowait'],
  [
    'tcp-listen:192.0.2.1:5000,tls=cert,ca=/c,,a,cert=/b,key=/k,peer=vm',
    'qemu:socket,host=192.0.2.1,port=5000,tls=cert,ca=/c,,a,cert=/b,key=/k,peer=vm',
  ],
];

for (const [meaning, ...texts] of SAME) {
  for (const text of texts) {
    test(`${text} is ${meaning}`, (t) => {
      t.deepEqual(parseChannel(text), parseChannel(meaning));
      t.is(parseChannel(text).text, meaning);
    });
  }
}

const KINDS = 'unix-connect, unix-listen, tcp-connect, tcp-listen, virtserial-open';
const LONG = `/${'x'.repeat(107)}`;

/** The messages for rejected texts. */
const REFUSED: readonly (readonly [says: string, ...texts: string[]])[] = [
  [KINDS, '', 'toString:/a'],
  ['missing kind before the path; did you mean unix-connect:/run/vm1.sock?', '/run/vm1.sock'],
  ['unknown kind "UNIX-connect"; did you mean unix-connect:?', 'UNIX-connect:/a'],
  ['missing path', 'unix-connect:', 'virtserial-open:,frame=4096', 'vsock-mux-connect::1'],
  ['a path cannot contain a NUL', 'unix:///a%00b'],
  ['missing path', 'qemu:socket,path=,server=on'],
  ['108 bytes (max 107)', `unix-listen:${LONG}`, `unix://${LONG}`, `qemu:unix:${LONG}`],
  ['is not HOST:PORT', 'tcp-connect::9000', 'tcp-listen:host:1e3', 'tcp-connect:[::1]'],
  ['is not HOST:PORT', 'qemu:socket,host=a b,port=1,server=on'],
  ['a port from 1 to 65535', 'tcp-connect:host:0', 'tcp://localhost:0'],
  ['a port from 0 to 65535', 'tcp-listen:host:65536'],
  ['IPv6 address in brackets', 'tcp-connect:::1:9000'],
  ['a number of bytes from 4096 to 1048576', 'unix-connect:/a,frame=4095'],
  ['a number of bytes from 1024 to 1073741824', 'unix-connect:/a,in-flight='],
  ['must be frame or full', 'unix-connect:/a,integrity=yes', 'unix-connect:/a,integrity'],
  ['a number from 1 to 1048576', 'unix-connect:/a,streams=0'],
  ['unknown option "frames"; did you mean frame?', 'unix-connect:/a,frames=4096'],
  ['unknown option "exclusive"', 'unix-connect:/a,exclusive'],
  ['exclusive=yes: must be on or off', 'unix-listen:/a,exclusive=yes'],
  ['unknown option ""', 'unix-connect:/a,'],
  ['option frame given twice', 'unix-connect:/a,frame=4096,frame=4096', 'qemu:unix:/a,frame=4096,frame=4096'],
  ['unknown option "x\\n"', 'unix-connect:/a,x\n=1'],
  ['baud=115201: must be one of 300, 600,', 'tty-open:/dev/ttyS1,baud=115201'],
  ['available: baud, frame, in-flight, integrity, streams', 'tty-open:/dev/ttyS1,speed=9600'],
  ['unknown option "baud"; available: frame, in-flight, integrity, streams', 'unix-connect:/a,baud=9600'],
  ['only options may follow the colon', 'stdio:/dev/tty'],
  ['expected a descriptor number', 'fd:', 'fd:03', 'fd://x'],
  ['which is for the log', 'fd:2'],
  ['missing command', 'exec: '],
  ['missing domain name', 'libvirt:'],
  ['missing port name', 'libvirt:vm1:'],
  ['a colon in a name is written ::', 'libvirt:vm1:a:b'],
  ['cannot contain slashes', 'libvirt://vm1'],
  ['cannot contain control characters', 'libvirt:vm\n1'],
  [
    'a libvirt URI of this machine',
    'libvirt:vm1,uri=',
    'libvirt:vm1,uri=qemu+ssh://host2/system',
    'libvirt:vm1,uri=a b',
  ],
  ['is not PATH:PORT', 'vsock-mux-connect:/tmp/vmm.vsock', 'vsock-mux-connect:/tmp/a:4294967296', 'vsock-mux:///run/v'],
  ['is not CID:PORT', 'vsock-connect:1234', 'vsock-connect:4294967295:1', 'vsock://2:4294967295'],
  ['is not a port from 0 to 4294967294', 'vsock-listen:2:1234', 'vsock-listen:4294967295'],
  // URIs.
  ['expected unix:///path', 'unix://run/vm1.sock', 'unix://user@/run/x', 'unix:///a%zz'],
  ['unknown option "baud"', 'unix:///a?baud=9600'],
  [': frame=: must be', 'unix:///a?frame'],
  ['the options of a URI follow a question mark', 'unix:///a,frame=4096'],
  ['write %20, %23', 'unix:///a#b', 'unix:///a\nb', 'unix:///a\\b'],
  ['expected tcp://host:port', 'tcp://localhost', 'tcp://:9000', 'tcp://localhost:9000/x', 'tcp://%2f%2flocalhost:1'],
  ['expected tcp-listen://host:port', 'tcp-listen:///run/x'],
  [
    'expected virtserial:///dev/virtio-ports/name',
    ...['virtserial://a/b', 'virtserial://%2f%2fa', 'virtserial://me@a', 'virtserial://a:1', 'virtserial:///'],
  ],
  ['must be one of 300, 600', 'tty:///dev/ttyS1?baud=1'],
  ['expected stdio://', 'stdio://x'],
  ['expected vsock://cid:port', 'vsock://2'],
  ['expected ssh://[user@]host[:port]/path', 'ssh://host', 'ssh:///run/x'],
  ['a password is not allowed in a channel', 'ssh://user:secret@host/x'],
  ['the host of ssh://', 'ssh://-oProxyCommand=x/x'],
  ['cannot contain control characters or backslashes', 'ssh://host/x%5cy'],
  ['unknown scheme "http"; available: unix, unix-connect', 'http://host/x'],
  // QEMU chardevs.
  ['"" is not a QEMU chardev that can be a channel; supported: unix:, tcp:, pipe: and pty:', 'qemu:'],
  ['"sokcet" is not a QEMU chardev', 'qemu:sokcet,path=/a'],
  ['a libvirt URI; for a domain', 'qemu:///system'],
  ['either path=, or host= and port=', 'qemu:socket', 'qemu:socket,path=/a,host=h,port=1'],
  ['either path=, or host= and port=', 'qemu:socket,path=/a,port=1,server=on'],
  ['missing port=', 'qemu:socket,host=h,server=on'],
  ['a number from 1 to 65535', 'qemu:socket,host=h,port=http,server=on'],
  ['missing host for QEMU to connect to', 'qemu:socket,host=,port=1'],
  ['is not tcp:HOST:PORT', 'qemu:tcp:1', 'qemu:tcp:::1:5000,server'],
  ['reconnect is not allowed with server=on', 'qemu:socket,path=/a,server=on,reconnect=1'],
  ['server=maybe: must be on or off', 'qemu:socket,path=/a,server=maybe'],
  ['wait=off -device x: must be on or off', 'qemu:socket,path=/a,wait=off -device x'],
  ['give one chardev and nothing else', 'qemu:socket,path=/a,id=c0 -device virtserialport,chardev=c0'],
  ['unknown option "nowiat"', 'qemu:unix:/a,server,nowiat'],
  ['unknown option "frames"', 'qemu:unix:/a,server,frames=4096'],
  ['unknown option "baud"', 'qemu:unix:/a,server,baud=9600'],
  [': abstract=on: vproxy does not open abstract sockets', 'qemu:unix:/a,abstract=on'],
  ['telnet inserts bytes of its own', 'qemu:telnet:h:1,server'],
  ['does not support WebSocket', 'qemu:tcp:h:1,server,websocket=on'],
  ["does not speak QEMU's TLS", 'qemu:socket,host=h,port=1,tls-creds=t0'],
  ['only the process that passed it to QEMU', 'qemu:socket,fd=3'],
  ['which port of the range', 'qemu:socket,host=h,port=1,to=9,server=on'],
  ['QEMU intercepts Ctrl-A', 'qemu:socket,path=/a,mux=on'],
  ['refers to a chardev that is defined elsewhere', 'qemu:chardev:c0'],
  ['datagrams can get lost', 'qemu:udp:h:1'],
  ['a screen of QEMU', 'qemu:vc:80Cx24C'],
  ["QEMU's own standard input and output", 'qemu:stdio'],
  ['it is write-only', 'qemu:file:/log'],
  ['it has no other end', 'qemu:null'],
  ['inside QEMU', 'qemu:ringbuf,size=64'],
  ['QEMU opens that line itself', 'qemu:serial,path=/dev/ttyS0'],
  [': qemu:pty:/dev/pts/N', 'qemu:pty'],
  ['missing path=', 'qemu:pipe'],
];

for (const [says, ...texts] of REFUSED) {
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
    t.is(traits.leadsToHost, isLine || name === 'virtserial-open', name);
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

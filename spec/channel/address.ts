/** Channels as people write them: what each text means, and what is refused. */
import test from 'ava';
import fc from 'fast-check';
import { parseChannel } from '../../lib/channel/address/address.js';
import { applyOptions } from '../../lib/channel/address/options.js';
import { QEMU_OPTIONS } from '../../lib/channel/address/qemu.js';
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

/** Texts that mean the same as another one, and the one that is canonical where it is neither. */
const SAME: readonly (readonly [text: string, other: string, canonical?: string])[] = [
  // URIs.
  ['unix:///run/vm1.sock', 'unix-connect:/run/vm1.sock'],
  ['unix-listen:///run/vm1.sock', 'unix-listen:/run/vm1.sock'],
  ['unix:///run/vm1.sock?frame=4096&integrity=full', 'unix-connect:/run/vm1.sock,frame=4096,integrity=full'],
  ['unix:///run/vms/*.sock', 'unix-connect:/run/vms/*.sock'],
  ['unix:///a%20b%2cc,d%23%3f%25?', 'unix-connect:/a b,,c,,d#?%'],
  ['unix:////run//x', 'unix-connect:/run//x'],
  ['unix:///odd:-', 'unix-connect:/odd:-:-'],
  ['tcp://localhost:9000', 'tcp-connect:localhost:9000'],
  ['tcp://[::1]:9000/?streams=20000', 'tcp-connect:[::1]:9000,streams=20000'],
  ['tcp-listen://127.0.0.1:0', 'tcp-listen:127.0.0.1:0'],
  ['virtserial:///dev/virtio-ports/org.vproxy.0', 'virtserial-open:/dev/virtio-ports/org.vproxy.0'],
  ['virtserial://org.vproxy.0', 'virtserial-open:org.vproxy.0'],
  ['tty:///dev/ttyS1?baud=115200', 'tty-open:/dev/ttyS1,baud=115200'],
  ['pipe:///run/vm1.pipe', 'pipe-open:/run/vm1.pipe'],
  ['stdio://?frame=4096', 'stdio:,frame=4096'],
  ['fd://3', 'fd:3'],
  ['vsock://2:1234', 'vsock-connect:2:1234'],
  ['vsock://3:4294967294?integrity=full', 'vsock-connect:3:4294967294,integrity=full'],
  ['vsock-listen://4294967294', 'vsock-listen:4294967294'],
  ['vsock-mux:///tmp/vmm.vsock:1234', 'vsock-mux-connect:/tmp/vmm.vsock:1234'],
  ['vsock-mux-listen:///tmp/vmm.vsock_1234', 'vsock-mux-listen:/tmp/vmm.vsock_1234'],
  // No URIs: the command begins with two slashes.
  ['exec://bin/true', 'exec://bin/true'],
  // What QEMU calls them.
  // Where QEMU listens, this side connects.
  ['qemu:unix:/run/vm1.sock,server,nowait', 'unix-connect:/run/vm1.sock'],
  ['qemu:unix:/run/vm1.sock,server=yes,wait', 'unix-connect:/run/vm1.sock'],
  ['qemu:socket,path=/run/vm1.sock,server=on,wait=off,id=c0', 'unix-connect:/run/vm1.sock'],
  ['qemu:socket,id=c0,server=on,path=/run/vm1.sock,logfile=/l,logappend=on', 'unix-connect:/run/vm1.sock'],
  ['qemu:backend=socket,path=/run/vm1.sock,server=on', 'unix-connect:/run/vm1.sock'],
  ['qemu:disconnected:unix:/run/vm1.sock,server=on', 'unix-connect:/run/vm1.sock'],
  ['qemu:tcp:localhost:5000,server,nowait,nodelay', 'tcp-connect:localhost:5000'],
  ['qemu:socket,host=::1,port=5000,server=on,wait=off', 'tcp-connect:[::1]:5000'],
  ['qemu:socket,host=vm.example,port=5000,server=on,reconnect=0', 'tcp-connect:vm.example:5000'],
  // The unspecified address includes the loopback.
  ['qemu:tcp::5000,server', 'tcp-connect:127.0.0.1:5000'],
  ['qemu:socket,host=,port=5000,server=on', 'tcp-connect:127.0.0.1:5000'],
  ['qemu:socket,host=0.0.0.0,port=5000,server=on', 'tcp-connect:127.0.0.1:5000'],
  ['qemu:socket,host=::,port=5000,server=on', 'tcp-connect:[::1]:5000'],
  ['qemu:socket,host=,port=5000,server=on,noipv4', 'tcp-connect:[::1]:5000'],
  ['qemu:socket,host=,port=5000,server=on,ipv4=on,ipv6=on', 'tcp-connect:127.0.0.1:5000'],
  // Where QEMU connects, this side listens.
  ['qemu:unix:/run/vm1.sock', 'unix-listen:/run/vm1.sock'],
  ['qemu:socket,path=/run/vm1.sock,reconnect=10', 'unix-listen:/run/vm1.sock'],
  ['qemu:socket,path=/run/vm1.sock,server=off,reconnect-ms=500', 'unix-listen:/run/vm1.sock'],
  ['qemu:unix:/run/vm1.sock,noserver', 'unix-listen:/run/vm1.sock'],
  ['qemu:socket,host=127.0.0.1,port=50000,reconnect=10', 'tcp-listen:127.0.0.1:50000'],
  ['qemu:socket,host=0.0.0.0,port=50000', 'tcp-listen:127.0.0.1:50000'],
  ['qemu:tcp:localhost:50000', 'tcp-listen:localhost:50000'],
  ['qemu:socket,path=/a,server=on,server=off', 'unix-listen:/a'],
  // FIFOs and terminals.
  ['qemu:pipe:/run/vm1.pipe', 'pipe-open:/run/vm1.pipe'],
  ['qemu:pipe,path=/run/vm1.pipe,id=c0', 'pipe-open:/run/vm1.pipe'],
  ['qemu:pty:/dev/pts/3', 'tty-open:/dev/pts/3'],
  ['qemu:pty,id=c0,path=/run/vm1.pty,baud=115200', 'tty-open:/run/vm1.pty,baud=115200'],
  // As users paste it.
  ['qemu:-chardev socket,path=/run/vm1.sock,server=on,wait=off,id=c0 \\', 'unix-connect:/run/vm1.sock'],
  ["qemu:-chardev 'socket,path=/run/vm 1.sock,server=on,wait=off'", 'unix-connect:/run/vm 1.sock'],
  ['qemu: --chardev="pipe,path=/run/vm1.pipe" ', 'pipe-open:/run/vm1.pipe'],
  ['qemu:-serial unix:/run/vm1.sock,server,nowait\n', 'unix-connect:/run/vm1.sock'],
  // Commas are doubled by both, and each option belongs to one of them.
  ['qemu:unix:/a,,b,,,server', 'unix-connect:/a,,b,,'],
  ['qemu:socket,path=/a:-,server=on', 'unix-connect:/a:-:-'],
  ['qemu:socket,path=//a//b,server=on', 'unix-connect:/a//b'],
  ['qemu:unix:/a,frame=4096,server,integrity=full,nowait', 'unix-connect:/a,frame=4096,integrity=full'],
  [
    'qemu:socket,host=192.0.2.1,port=5000,tls=cert,ca=/c,,a,cert=/b,key=/k,peer=vm',
    'tcp-listen:192.0.2.1:5000,tls=cert,ca=/c,,a,cert=/b,key=/k,peer=vm',
  ],
];

for (const [text, other, canonical = other] of SAME) {
  test(`${text} is ${other}`, (t) => {
    t.deepEqual(parseChannel(text), parseChannel(other));
    t.is(parseChannel(text).text, canonical);
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
  ['virtserial-open:,frame=4096', 'a path is missing'],
  [`unix-listen:/${'x'.repeat(107)}`, '108 bytes, the system allows 107'],
  ['tcp-connect::9000', 'is not HOST:PORT'],
  ['tcp-connect:host:0', 'a port from 1 to 65535'],
  ['tcp-listen:host:65536', 'a port from 0 to 65535'],
  ['tcp-listen:host:1e3', 'is not HOST:PORT'],
  ['tcp-connect:::1:9000', 'IPv6 address in brackets'],
  ['tcp-connect:[::1]', 'is not HOST:PORT'],
  ['unix-connect:/a,frame=4095', 'a number of bytes from 4096 to 1048576'],
  ['unix-connect:/a,in-flight=', 'a number of bytes from 1024 to 1073741824'],
  ['unix-connect:/a,integrity=yes', 'should be frame or full'],
  ['unix-connect:/a,streams=0', 'a number from 1 to 1048576'],
  ['unix-connect:/a,integrity', 'should be frame or full'],
  ['unix-connect:/a,frames=4096', 'no option "frames"; did you mean frame?'],
  ['unix-connect:/a,', 'has no option ""'],
  ['unix-connect:/a,frame=4096,frame=4096', 'has the option frame twice'],
  ['unix-connect:/a,x\n=1', 'no option \"x\\n\"'],
  ['tty-open:/dev/ttyS1,baud=115201', 'baud=115201, which should be one of 300, 600,'],
  ['tty-open:/dev/ttyS1,speed=9600', 'there are: baud, frame, in-flight, integrity, streams'],
  ['unix-connect:/a,baud=9600', 'no option "baud"; there are: frame, in-flight, integrity, streams'],
  ['stdio:/dev/tty', 'nothing but options follows the colon'],
  ['fd:', 'the number of a descriptor'],
  ['fd:2', 'taken for the log'],
  ['fd:03', 'the number of a descriptor'],
  ['exec: ', 'a command is missing'],
  ['libvirt:', 'the name of a domain is missing'],
  ['libvirt:vm1:', 'the name of a port is missing'],
  ['libvirt:vm1:a:b', 'a colon in a name is written ::'],
  ['libvirt://vm1', 'has no slashes'],
  ['libvirt:vm\n1', 'no control characters'],
  ['libvirt:vm1,uri=', 'a libvirt URI of this machine'],
  ['libvirt:vm1,uri=qemu+ssh://host2/system', 'a libvirt URI of this machine'],
  ['libvirt:vm1,uri=a b', 'a libvirt URI of this machine'],
  ['vsock-mux-connect:/tmp/vmm.vsock', ''],
  ['vsock-mux-connect:/tmp/vmm.vsock:4294967296', ''],
  ['vsock-mux-connect::1', ''],
  ['vsock-connect:1234', ''],
  ['vsock-connect:4294967295:1', ''],
  ['vsock-listen:2:1234', ''],
  ['vsock-listen:4294967295', ''],
  // URIs.
  ['unix://run/vm1.sock', 'expected unix:///path'],
  ['unix://user@/run/x', 'expected unix:///path'],
  [`unix:///${'x'.repeat(107)}`, '108 bytes, the system allows 107'],
  ['unix:///a?baud=9600', 'no option "baud"'],
  ['unix:///a?frame', 'has frame=, which should be'],
  ['unix:///a,frame=4096', 'the options of a URI follow a question mark'],
  ['unix:///a#b', 'write %20, %23'],
  ['unix:///a\nb', 'write %20, %23'],
  ['unix:///a\\b', 'write %20, %23'],
  ['unix:///a%00b', 'a path is missing'],
  ['unix:///a%zz', 'expected unix:///path'],
  ['tcp://localhost', 'expected tcp://host:port'],
  ['tcp://:9000', 'expected tcp://host:port'],
  ['tcp://localhost:9000/x', 'expected tcp://host:port'],
  ['tcp://localhost:0', 'a port from 1 to 65535'],
  ['tcp-listen:///run/x', 'expected tcp-listen://host:port'],
  ['virtserial://a/b', 'expected virtserial:///dev/virtio-ports/name'],
  ['virtserial://me@a', 'expected virtserial:///dev/virtio-ports/name'],
  ['virtserial://a:1', 'expected virtserial:///dev/virtio-ports/name'],
  ['virtserial:///', 'expected virtserial:///dev/virtio-ports/name'],
  ['virtserial://%2f%2fa', 'expected virtserial:///dev/virtio-ports/name'],
  ['tcp://%2f%2flocalhost:1', 'expected tcp://host:port'],
  ['tty:///dev/ttyS1?baud=1', 'which should be one of 300, 600'],
  ['stdio://x', 'expected stdio://'],
  ['fd://x', 'the number of a descriptor'],
  ['vsock://2', 'expected vsock://cid:port'],
  ['vsock://2:4294967295', 'is not CID:PORT'],
  ['vsock-mux:///run/v', 'is not PATH:PORT'],
  ['ssh://host', 'expected ssh://[user@]host[:port]/path'],
  ['ssh:///run/x', 'expected ssh://[user@]host[:port]/path'],
  ['ssh://user:secret@host/x', 'a password has no place in a channel'],
  ['ssh://-oProxyCommand=x/x', 'the host of ssh://'],
  ['ssh://host/x%5cy', 'no control characters and no backslashes'],
  ['http://host/x', 'there is no scheme "http"; there are: unix, unix-connect'],
  // What QEMU calls them.
  ['qemu:', '"" is no chardev of QEMU that can be a channel; vproxy takes unix:, tcp:, pipe: and pty:'],
  ['qemu:sokcet,path=/a', '"sokcet" is no chardev'],
  ['qemu:///system', 'a URI of libvirt'],
  ['qemu:socket', 'either path=, or host= and port='],
  ['qemu:socket,path=/a,host=h,port=1', 'either path=, or host= and port='],
  ['qemu:socket,path=/a,port=1,server=on', 'either path=, or host= and port='],
  ['qemu:socket,host=h,server=on', 'port= is missing'],
  ['qemu:socket,host=h,port=http,server=on', 'a number from 1 to 65535'],
  ['qemu:socket,host=a b,port=1,server=on', 'is not HOST:PORT'],
  ['qemu:socket,host=,port=1', 'no host that QEMU could connect to'],
  ['qemu:tcp:1', 'is not tcp:HOST:PORT'],
  ['qemu:tcp:::1:5000,server', 'is not tcp:HOST:PORT'],
  ['qemu:socket,path=/a,server=on,reconnect=1', 'QEMU takes no reconnect with server=on'],
  ['qemu:socket,path=/a,server=maybe', 'has server=maybe, which should be on or off'],
  ['qemu:socket,path=/a,wait=off -device x', 'has wait=off -device x, which should be on or off'],
  ['qemu:socket,path=/a,id=c0 -device virtserialport,chardev=c0', 'one chardev belongs here, nothing else'],
  ['qemu:socket,path=,server=on', 'a path is missing'],
  [`qemu:unix:/${'x'.repeat(107)}`, '108 bytes, the system allows 107'],
  ['qemu:unix:/a,server,nowiat', 'has no option "nowiat"'],
  ['qemu:unix:/a,server,frames=4096', 'has no option "frames"'],
  ['qemu:unix:/a,server,baud=9600', 'has no option "baud"'],
  ['qemu:unix:/a,frame=4096,frame=4096', 'has the option frame twice'],
  ['qemu:unix:/a,abstract=on', 'has abstract=on: vproxy opens no abstract sockets'],
  ['qemu:telnet:h:1,server', 'telnet puts bytes of its own'],
  ['qemu:tcp:h:1,server,websocket=on', 'speaks no WebSocket'],
  ['qemu:socket,host=h,port=1,tls-creds=t0', "does not speak QEMU's TLS"],
  ['qemu:socket,fd=3', 'only the process that QEMU has it from'],
  ['qemu:socket,host=h,port=1,to=9,server=on', 'which port of the range'],
  ['qemu:socket,path=/a,mux=on', 'QEMU takes Ctrl-A'],
  ['qemu:chardev:c0', 'names a device that is spelled elsewhere'],
  ['qemu:udp:h:1', 'datagrams get lost'],
  ['qemu:vc:80Cx24C', 'a screen of QEMU'],
  ['qemu:stdio', "QEMU's own standard input and output"],
  ['qemu:file:/log', 'nothing comes back'],
  ['qemu:null', 'nothing is at its other end'],
  ['qemu:ringbuf,size=64', 'in QEMU itself'],
  ['qemu:serial,path=/dev/ttyS0', 'QEMU opens that line itself'],
  ['qemu:pty', 'write qemu:pty:/dev/pts/N'],
  ['qemu:pipe', 'path= is missing'],
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

// URIs of ssh, which become commands.

const OPTIONS = '-T -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3';
const runs = test.macro({
  title: (_, uri: string) => `${uri} runs ssh`,
  exec(t, uri: string, words: string, options: string = '') {
    t.is(parseChannel(uri).address, `ssh ${OPTIONS} ${words}`);
    t.deepEqual(parseChannel(parseChannel(uri).text), parseChannel(uri));
    t.true(parseChannel(uri).text.endsWith(options));
  },
});

test(runs, 'ssh://host2/run/vm1.sock', "-- host2 'socat - UNIX-CONNECT:/run/vm1.sock'");
test(
  runs,
  'ssh://root@host2:2222/run/vm1.sock?streams=9',
  "-p 2222 -l root -- host2 'socat - UNIX-CONNECT:/run/vm1.sock'",
  ',streams=9',
);
test(runs, 'ssh://[fe80::1]/x', "-- fe80::1 'socat - UNIX-CONNECT:/x'");
test(runs, 'ssh://a%20b%27%3bc@host/x', "-l 'a b'\\'';c' -- host 'socat - UNIX-CONNECT:/x'");

test('every path is the same as a URI and in the short form', (t) => {
  const path = fc
    .string({
      minLength: 1,
      maxLength: 20,
      unit: fc.constantFrom('/', 'a', ',', ':', '-', '=', ' ', 'é', '#', '?', '%', '*', '{'),
    })
    // Without dots, which a URL would resolve, and without two slashes at the start.
    .filter((text) => !text.startsWith('/'));
  fc.assert(
    fc.property(fc.constantFrom('unix-connect', 'unix-listen', 'pipe-open'), path, (kind, text) => {
      const uri = parseChannel(`${kind}:///${text.split('/').map(encodeURIComponent).join('/')}`);
      t.is(uri.address, `/${text}`);
      t.deepEqual(parseChannel(uri.text), uri);
    }),
  );
});

// Spellings of QEMU.

test('an abstract= or a telnet= that is off changes nothing', (t) => {
  t.is(parseChannel('qemu:socket,path=/a,server=on,abstract=off,telnet=no,mux=false').text, 'unix-connect:/a');
});

test('no option of QEMU is one of a channel, so that each belongs to one of the two', (t) => {
  for (const [name, kind] of CHANNEL_KINDS) {
    for (const option of [...QEMU_OPTIONS.flags, ...QEMU_OPTIONS.values]) {
      t.throws(() => applyOptions(kind, null, [`${option}=on`]), { message: /^has no option/ }, `${name}: ${option}`);
    }
  }
});

test('every path means the same as QEMU spells it and in the short form', (t) => {
  const path = fc.string({
    minLength: 1,
    maxLength: 20,
    unit: fc.constantFrom('/', 'a', ',', ':', '-', '=', 'é', '*'),
  });
  fc.assert(
    fc.property(path, fc.boolean(), fc.boolean(), (file, listens, isLegacy) => {
      const start = isLegacy ? 'unix:/' : 'socket,path=/';
      const end = listens ? ',server=on,wait=off' : ',reconnect=1';
      const parsed = parseChannel(`qemu:${start}${file.replaceAll(',', ',,')}${end}`);
      t.is(parsed.kindName, listens ? 'unix-connect' : 'unix-listen');
      t.is(parsed.address, `/${file}`.replace(/^\/+/, '/'));
      t.deepEqual(parseChannel(parsed.text), parsed);
    }),
  );
});

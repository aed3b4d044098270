import test from 'ava';
import fc from 'fast-check';
import { parseChannel } from '../../lib/channel/address/address.js';
import { applyOptions } from '../../lib/channel/address/options.js';
import { QEMU_OPTIONS } from '../../lib/channel/address/qemu.js';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { VproxyError } from '../../lib/errors.js';

const MEANS: readonly (readonly [chardev: string, canonical: string])[] = [
  // Where QEMU listens, this side connects.
  ['unix:/run/vm1.sock,server,nowait', 'unix-connect:/run/vm1.sock'],
  ['unix:/run/vm1.sock,server=on,wait=off', 'unix-connect:/run/vm1.sock'],
  ['unix:/run/vm1.sock,server=yes,wait', 'unix-connect:/run/vm1.sock'],
  ['socket,path=/run/vm1.sock,server=on,wait=off,id=c0', 'unix-connect:/run/vm1.sock'],
  ['socket,id=c0,server=on,path=/run/vm1.sock,logfile=/l,logappend=on', 'unix-connect:/run/vm1.sock'],
  ['backend=socket,path=/run/vm1.sock,server=on', 'unix-connect:/run/vm1.sock'],
  ['disconnected:unix:/run/vm1.sock,server=on', 'unix-connect:/run/vm1.sock'],
  ['tcp:localhost:5000,server,nowait,nodelay', 'tcp-connect:localhost:5000'],
  ['tcp:[::1]:5000,server=on', 'tcp-connect:[::1]:5000'],
  ['socket,host=::1,port=5000,server=on,wait=off', 'tcp-connect:[::1]:5000'],
  ['socket,host=vm.example,port=5000,server=on,reconnect=0', 'tcp-connect:vm.example:5000'],
  // The unspecified address includes the loopback.
  ['tcp::5000,server', 'tcp-connect:127.0.0.1:5000'],
  ['socket,host=,port=5000,server=on', 'tcp-connect:127.0.0.1:5000'],
  ['socket,host=0.0.0.0,port=5000,server=on', 'tcp-connect:127.0.0.1:5000'],
  ['socket,host=::,port=5000,server=on', 'tcp-connect:[::1]:5000'],
  ['socket,host=,port=5000,server=on,ipv6=on', 'tcp-connect:[::1]:5000'],
  ['socket,host=,port=5000,server=on,noipv4', 'tcp-connect:[::1]:5000'],
  ['socket,host=,port=5000,server=on,ipv4=on,ipv6=on', 'tcp-connect:127.0.0.1:5000'],
  // Where QEMU connects, this side listens.
  ['unix:/run/vm1.sock', 'unix-listen:/run/vm1.sock'],
  ['socket,path=/run/vm1.sock,reconnect=10', 'unix-listen:/run/vm1.sock'],
  ['socket,path=/run/vm1.sock,server=off,reconnect-ms=500', 'unix-listen:/run/vm1.sock'],
  ['unix:/run/vm1.sock,noserver', 'unix-listen:/run/vm1.sock'],
  ['socket,host=127.0.0.1,port=50000,reconnect=10', 'tcp-listen:127.0.0.1:50000'],
  ['socket,host=0.0.0.0,port=50000', 'tcp-listen:127.0.0.1:50000'],
  ['tcp:localhost:50000', 'tcp-listen:localhost:50000'],
  ['socket,path=/a,server=on,server=off', 'unix-listen:/a'],
  // FIFOs and terminals.
  ['pipe:/run/vm1.pipe', 'pipe-open:/run/vm1.pipe'],
  ['pipe,path=/run/vm1.pipe,id=c0', 'pipe-open:/run/vm1.pipe'],
  ['pty:/dev/pts/3', 'tty-open:/dev/pts/3'],
  ['pty,id=c0,path=/run/vm1.pty,baud=115200', 'tty-open:/run/vm1.pty,baud=115200'],
  // As users paste it.
  ['-chardev socket,path=/run/vm1.sock,server=on,wait=off,id=c0 \\', 'unix-connect:/run/vm1.sock'],
  ["-chardev 'socket,path=/run/vm 1.sock,server=on,wait=off'", 'unix-connect:/run/vm 1.sock'],
  [' --chardev="pipe,path=/run/vm1.pipe" ', 'pipe-open:/run/vm1.pipe'],
  ['-serial unix:/run/vm1.sock,server,nowait\n', 'unix-connect:/run/vm1.sock'],
  // Commas are doubled by both, and each option belongs to one of them.
  ['unix:/a,,b,,,server', 'unix-connect:/a,,b,,'],
  ['socket,path=/a:-,server=on', 'unix-connect:/a:-:-'],
  ['socket,path=//a//b,server=on', 'unix-connect:/a//b'],
  ['unix:/a,frame=4096,server,integrity=full,nowait', 'unix-connect:/a,frame=4096,integrity=full'],
  [
    'socket,host=192.0.2.1,port=5000,tls=cert,ca=/c,,a,cert=/b,key=/k,peer=vm',
    'tcp-listen:192.0.2.1:5000,tls=cert,ca=/c,,a,cert=/b,key=/k,peer=vm',
  ],
];

for (const [chardev, canonical] of MEANS) {
  test(`qemu:${chardev}`, (t) => {
    const parsed = parseChannel(`qemu:${chardev}`);
    t.is(parsed.text, canonical);
    t.deepEqual(parseChannel(canonical), parsed);
  });
}

const REFUSED: readonly (readonly [chardev: string, says: string])[] = [
  ['', '"" is no chardev of QEMU that can be a channel; vproxy takes unix:, tcp:, pipe: and pty:'],
  ['/run/vm1.sock', 'is no chardev'],
  ['constructor', 'is no chardev'],
  ['sokcet,path=/a', '"sokcet" is no chardev'],
  ['///system', 'a URI of libvirt'],
  ['socket', 'either path=, or host= and port='],
  ['socket,path=/a,host=h,port=1', 'either path=, or host= and port='],
  ['socket,port=1,server=on', 'either path=, or host= and port='],
  ['socket,path=/a,port=1,server=on', 'either path=, or host= and port='],
  ['socket,host=h,server=on', 'port= is missing'],
  ['socket,host=h,port=http,server=on', 'a number from 1 to 65535'],
  ['socket,host=h,port=0,server=on', 'a number from 1 to 65535'],
  ['socket,host=a b,port=1,server=on', 'is not HOST:PORT'],
  ['socket,host=,port=1', 'no host that QEMU could connect to'],
  ['tcp::1', 'no host that QEMU could connect to'],
  ['tcp:1', 'is not tcp:HOST:PORT'],
  ['tcp:::1:5000,server', 'is not tcp:HOST:PORT'],
  ['socket,path=/a,server=on,reconnect=1', 'QEMU takes no reconnect with server=on'],
  ['socket,path=/a,server=maybe', 'has server=maybe, which should be on or off'],
  ['socket,path=/a,wait=off -device x', 'has wait=off -device x, which should be on or off'],
  ['socket,path=/a,id=c0 -device virtserialport,chardev=c0', 'one chardev belongs here, nothing else'],
  ['socket,path=,server=on', 'a path is missing'],
  [`unix:/${'x'.repeat(107)}`, '108 bytes, the system allows 107'],
  ['unix:/a,server,nowiat', 'has no option "nowiat"'],
  ['unix:/a,server,frames=4096', 'has no option "frames"'],
  ['unix:/a,server,baud=9600', 'has no option "baud"'],
  ['unix:/a,frame=4096,frame=4096', 'has the option frame twice'],
  ['unix:/a,abstract=on', 'has abstract=on: vproxy opens no abstract sockets'],
  ['unix:/a,abstract', 'has abstract=on'],
  ['tcp:h:1,server,telnet', 'has telnet=on: telnet puts bytes of its own'],
  ['telnet:h:1,server', 'telnet puts bytes of its own'],
  ['tcp:h:1,server,websocket=on', 'speaks no WebSocket'],
  ['websocket:h:1,server', 'speaks no WebSocket'],
  ['socket,host=h,port=1,tls-creds=t0', "does not speak QEMU's TLS"],
  ['socket,fd=3', 'only the process that QEMU has it from'],
  ['socket,host=h,port=1,to=9,server=on', 'which port of the range'],
  ['socket,path=/a,mux=on', 'QEMU takes Ctrl-A'],
  ['mon:unix:/a', 'QEMU takes Ctrl-A'],
  ['chardev:c0', 'names a device that is spelled elsewhere'],
  ['udp:h:1', 'datagrams get lost'],
  ['udp,host=h,port=1', 'datagrams get lost'],
  ['vc', 'a screen of QEMU'],
  ['vc:80Cx24C', 'a screen of QEMU'],
  ['stdio', "QEMU's own standard input and output"],
  ['file:/log', 'nothing comes back'],
  ['file,path=/log', 'nothing comes back'],
  ['null', 'nothing is at its other end'],
  ['ringbuf,size=64', 'in QEMU itself'],
  ['serial,path=/dev/ttyS0', 'QEMU opens that line itself'],
  ['pty', 'write qemu:pty:/dev/pts/N'],
  ['pipe', 'path= is missing'],
];

for (const [chardev, says] of REFUSED) {
  test(`qemu:${chardev} is refused`, (t) => {
    const { message } = t.throws(() => parseChannel(`qemu:${chardev}`), {
      instanceOf: VproxyError,
      code: 'bad-argument',
    });
    t.true(message.startsWith('channel "qemu:'), message);
    t.true(message.includes(says), message);
    t.false(message.includes('\n'));
  });
}

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

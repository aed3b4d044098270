import test from 'ava';
import fc from 'fast-check';
import { parseChannel } from '../../lib/channel/address/address.js';
import { VproxyError } from '../../lib/errors.js';

const MEANS: readonly (readonly [uri: string, short: string, canonical?: string])[] = [
  ['unix:///run/vm1.sock', 'unix-connect:/run/vm1.sock'],
  ['unix-connect:///run/vm1.sock', 'unix-connect:/run/vm1.sock'],
  ['unix-listen:///run/vm1.sock', 'unix-listen:/run/vm1.sock'],
  ['unix:///run/vm1.sock?frame=4096&integrity=full', 'unix-connect:/run/vm1.sock,frame=4096,integrity=full'],
  ['unix:///run/vms/*.sock', 'unix-connect:/run/vms/*.sock'],
  ['unix:///a%20b%2cc,d%23%3f%25?', 'unix-connect:/a b,,c,,d#?%'],
  ['unix:////run//x', 'unix-connect:/run//x'],
  ['unix:///odd:-', 'unix-connect:/odd:-:-'],
  ['tcp://localhost:9000', 'tcp-connect:localhost:9000'],
  ['tcp://[::1]:9000/?streams=20000', 'tcp-connect:[::1]:9000,streams=20000'],
  ['tcp://12:9000', 'tcp-connect:12:9000'],
  ['tcp-listen://127.0.0.1:0', 'tcp-listen:127.0.0.1:0'],
  ['virtserial:///dev/virtio-ports/org.vproxy.0', 'virtserial-open:/dev/virtio-ports/org.vproxy.0'],
  ['virtserial://org.vproxy.0', 'virtserial-open:org.vproxy.0'],
  ['tty:///dev/ttyS1?baud=115200', 'tty-open:/dev/ttyS1,baud=115200'],
  ['pipe:///run/vm1.pipe', 'pipe-open:/run/vm1.pipe'],
  ['stdio://', 'stdio:'],
  ['stdio://?frame=4096', 'stdio:,frame=4096'],
  ['fd://3', 'fd:3'],
  ['vsock://2:1234', 'vsock-connect:2:1234'],
  ['vsock://3:4294967294?integrity=full', 'vsock-connect:3:4294967294,integrity=full'],
  ['vsock-listen://4294967294', 'vsock-listen:4294967294'],
  ['vsock-mux:///tmp/vmm.vsock:1234', 'vsock-mux-connect:/tmp/vmm.vsock:1234'],
  ['vsock-mux-listen:///tmp/vmm.vsock_1234', 'vsock-mux-listen:/tmp/vmm.vsock_1234'],
  // No URIs: the command begins with two slashes.
  ['exec://bin/true', 'exec://bin/true'],
];

for (const [uri, short, canonical = short] of MEANS) {
  test(`${uri} is ${short}`, (t) => {
    t.deepEqual(parseChannel(uri), parseChannel(short));
    t.is(parseChannel(uri).text, canonical);
  });
}

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

const REFUSED: readonly (readonly [uri: string, says: string])[] = [
  ['unix://run/vm1.sock', 'expected unix:///path'],
  ['unix://', 'expected unix:///path'],
  ['unix:///', 'expected unix:///path'],
  ['unix://user@/run/x', 'expected unix:///path'],
  [`unix:///${'x'.repeat(107)}`, '108 bytes, the system allows 107'],
  ['unix:///a?baud=9600', 'no option "baud"'],
  ['unix:///a?frame', 'has frame=, which should be'],
  ['unix:///a?frame=4096&frame=4096', 'has the option frame twice'],
  ['unix:///a,frame=4096', 'the options of a URI follow a question mark'],
  ['unix:///a#b', 'write %20, %23'],
  ['unix:///a b', 'write %20, %23'],
  ['unix:///a\nb', 'write %20, %23'],
  ['unix:///a\\b', 'write %20, %23'],
  ['unix:///a%00b', 'a path is missing'],
  ['unix:///a%zz', 'expected unix:///path'],
  ['unix:///a%ff', 'expected unix:///path'],
  ['tcp://localhost', 'expected tcp://host:port'],
  ['tcp://:9000', 'expected tcp://host:port'],
  ['tcp://localhost:9000/x', 'expected tcp://host:port'],
  ['tcp://localhost:65536', 'expected tcp://host:port'],
  ['tcp://localhost:0', 'a port from 1 to 65535'],
  ['tcp://user@localhost:1', 'expected tcp://host:port'],
  ['tcp-listen:///run/x', 'expected tcp-listen://host:port'],
  ['virtserial://a/b', 'expected virtserial:///dev/virtio-ports/name'],
  ['virtserial://%2f%2fa', 'expected virtserial:///dev/virtio-ports/name'],
  ['tcp://%2f%2flocalhost:1', 'expected tcp://host:port'],
  ['virtserial://', 'expected virtserial:///dev/virtio-ports/name'],
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
  ['ssh://host%3bx/x', 'the host of ssh:// is a name or an address'],
  ['ssh://host/x%0ay', 'no control characters'],
  ['ssh://host/x%5cy', 'no control characters and no backslashes'],
  ['http://host/x', 'there is no scheme "http"; there are: unix, unix-connect'],
];

for (const [uri, says] of REFUSED) {
  test(`${JSON.stringify(uri)} is refused`, (t) => {
    const { message } = t.throws(() => parseChannel(uri), { instanceOf: VproxyError, code: 'bad-argument' });
    t.true(message.startsWith('channel "'), message);
    t.true(message.includes(says), message);
  });
}

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

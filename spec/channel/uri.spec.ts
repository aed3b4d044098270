import test from 'ava';
import fc from 'fast-check';
import { parseChannel } from '../../lib/channel/address/address.js';
import { VproxyError } from '../../lib/errors.js';

const means = test.macro({
  title: (_, uri: string, short: string) => `${uri} is ${short}`,
  exec(t, uri: string, short: string, canonical: string = short) {
    t.deepEqual(parseChannel(uri), parseChannel(short));
    t.is(parseChannel(uri).text, canonical);
  },
});

test(means, 'unix:///run/vm1.sock', 'unix-connect:/run/vm1.sock');
test(means, 'unix-connect:///run/vm1.sock', 'unix-connect:/run/vm1.sock');
test(means, 'unix-listen:///run/vm1.sock', 'unix-listen:/run/vm1.sock');
test(means, 'unix:///run/vm1.sock?frame=4096&integrity=full', 'unix-connect:/run/vm1.sock,frame=4096,integrity=full');
test(means, 'unix:///run/vms/*.sock', 'unix-connect:/run/vms/*.sock');
test(means, 'unix:///a%20b%2cc,d%23%3f%25?', 'unix-connect:/a b,,c,,d#?%');
test(means, 'unix:////run//x', 'unix-connect:/run//x');
test(means, 'unix:///odd:-', 'unix-connect:/odd:-:-');
test(means, 'tcp://localhost:9000', 'tcp-connect:localhost:9000');
test(means, 'tcp://[::1]:9000/?streams=20000', 'tcp-connect:[::1]:9000,streams=20000');
test(means, 'tcp://12:9000', 'tcp-connect:12:9000');
test(means, 'tcp-listen://127.0.0.1:0', 'tcp-listen:127.0.0.1:0');
test(means, 'virtserial:///dev/virtio-ports/org.vproxy.0', 'virtserial-open:/dev/virtio-ports/org.vproxy.0');
test(means, 'virtserial://org.vproxy.0', 'virtserial-open:org.vproxy.0');
test(means, 'tty:///dev/ttyS1?baud=115200', 'tty-open:/dev/ttyS1,baud=115200');
test(means, 'pipe:///run/vm1.pipe', 'pipe-open:/run/vm1.pipe');
test(means, 'stdio://', 'stdio:');
test(means, 'stdio://?frame=4096', 'stdio:,frame=4096');
test(means, 'fd://3', 'fd:3');
test(means, 'vsock://2:1234', 'vsock-connect:2:1234');
test(means, 'vsock://3:4294967294?integrity=full', 'vsock-connect:3:4294967294,integrity=full');
test(means, 'vsock-listen://4294967294', 'vsock-listen:4294967294');
test(means, 'vsock-mux:///tmp/vmm.vsock:1234', 'vsock-mux-connect:/tmp/vmm.vsock:1234');
test(means, 'vsock-mux-listen:///tmp/vmm.vsock_1234', 'vsock-mux-listen:/tmp/vmm.vsock_1234');
// No URIs: the command begins with two slashes.
test(means, 'exec://bin/true', 'exec://bin/true');

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

const refuses = test.macro({
  title: (_, text: string) => `${JSON.stringify(text)} is refused`,
  exec(t, text: string, says: string) {
    const error = t.throws(() => parseChannel(text), { instanceOf: VproxyError, code: 'bad-argument' });
    t.true(error.message.startsWith('channel "'), error.message);
    t.true(error.message.includes(says), error.message);
  },
});

test(refuses, 'unix://run/vm1.sock', 'expected unix:///path');
test(refuses, 'unix://', 'expected unix:///path');
test(refuses, 'unix:///', 'expected unix:///path');
test(refuses, 'unix://user@/run/x', 'expected unix:///path');
test(refuses, `unix:///${'x'.repeat(107)}`, '108 bytes, the system allows 107');
test(refuses, 'unix:///a?baud=9600', 'no option "baud"');
test(refuses, 'unix:///a?frame', 'has frame=, which should be');
test(refuses, 'unix:///a?frame=4096&frame=4096', 'has the option frame twice');
test(refuses, 'unix:///a,frame=4096', 'the options of a URI follow a question mark');
test(refuses, 'unix:///a#b', 'write %20, %23');
test(refuses, 'unix:///a b', 'write %20, %23');
test(refuses, 'unix:///a\nb', 'write %20, %23');
test(refuses, 'unix:///a\\b', 'write %20, %23');
test(refuses, 'unix:///a%00b', 'a path is missing');
test(refuses, 'unix:///a%zz', 'expected unix:///path');
test(refuses, 'unix:///a%ff', 'expected unix:///path');
test(refuses, 'tcp://localhost', 'expected tcp://host:port');
test(refuses, 'tcp://:9000', 'expected tcp://host:port');
test(refuses, 'tcp://localhost:9000/x', 'expected tcp://host:port');
test(refuses, 'tcp://localhost:65536', 'expected tcp://host:port');
test(refuses, 'tcp://localhost:0', 'a port from 1 to 65535');
test(refuses, 'tcp://user@localhost:1', 'expected tcp://host:port');
test(refuses, 'tcp-listen:///run/x', 'expected tcp-listen://host:port');
test(refuses, 'virtserial://a/b', 'expected virtserial:///dev/virtio-ports/name');
test(refuses, 'virtserial://%2f%2fa', 'expected virtserial:///dev/virtio-ports/name');
test(refuses, 'tcp://%2f%2flocalhost:1', 'expected tcp://host:port');
test(refuses, 'virtserial://', 'expected virtserial:///dev/virtio-ports/name');
test(refuses, 'tty:///dev/ttyS1?baud=1', 'which should be one of 300, 600');
test(refuses, 'stdio://x', 'expected stdio://');
test(refuses, 'fd://x', 'the number of a descriptor');
test(refuses, 'vsock://2', 'expected vsock://cid:port');
test(refuses, 'vsock://2:4294967295', 'is not CID:PORT');
test(refuses, 'vsock-mux:///run/v', 'is not PATH:PORT');
test(refuses, 'ssh://host', 'expected ssh://[user@]host[:port]/path');
test(refuses, 'ssh:///run/x', 'expected ssh://[user@]host[:port]/path');
test(refuses, 'ssh://user:secret@host/x', 'a password has no place in a channel');
test(refuses, 'ssh://-oProxyCommand=x/x', 'the host of ssh://');
test(refuses, 'ssh://host%3bx/x', 'the host of ssh:// is a name or an address');
test(refuses, 'ssh://host/x%0ay', 'no control characters');
test(refuses, 'ssh://host/x%5cy', 'no control characters and no backslashes');
test(refuses, 'http://host/x', 'there is no scheme "http"; there are: unix, unix-connect');

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

test('no URI makes the parser throw anything but bad-argument, and what it takes is canonical after one parse', (t) => {
  const scheme = fc.constantFrom('unix', 'tcp', 'virtserial', 'tty', 'vsock', 'vsock-mux', 'fd', 'stdio', 'ssh', 'x');
  const rest = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 30 }),
    fc
      .array(fc.constantFrom('/', 'a', ':', '@', '[::1]', '1', '%41', '%2f', '?', '&', '=', 'frame=4096', '..', '~'))
      .map((list) => list.join('')),
  );
  fc.assert(
    fc.property(scheme, rest, (name, text) => {
      try {
        const parsed = parseChannel(`${name}://${text}`);
        t.deepEqual(parseChannel(parsed.text), parsed);
      } catch (error) {
        t.true(error instanceof VproxyError && error.code === 'bad-argument', String(error));
      }
    }),
    { numRuns: 1000 },
  );
});

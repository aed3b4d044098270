import test from 'ava';
import fc from 'fast-check';
import { parseChannel } from '../../lib/channel/address/address.js';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { VproxyError } from '../../lib/errors.js';

const means = test.macro({
  title: (_, text: string) => `${text} is understood`,
  exec(t, text: string, address: unknown, canonical: string = text, traits: object = {}) {
    const parsed = parseChannel(text);
    t.true(parsed.text === canonical, parsed.text);
    t.true(parsed.kind === CHANNEL_KINDS.get(parsed.kindName));
    t.deepEqual(parsed.traits, { ...parsed.kind.traits, ...traits });
    t.deepEqual(parsed.address, address);
  },
});

test(means, 'unix-connect:/run/vm1.sock', '/run/vm1.sock');
test(means, 'unix-connect:/run/vm1.sock:-', '/run/vm1.sock', 'unix-connect:/run/vm1.sock');
test(means, 'unix-listen:relative', 'relative');
test(means, 'unix-listen:/a,,b,,,frame=4096', '/a,b,', 'unix-listen:/a,,b,,,frame=4096', {
  frameBytes: 4096,
  inFlightBytes: 4096,
});
test(means, 'unix-connect:/a,in-flight=1048576,frame=4096', '/a', 'unix-connect:/a,frame=4096,in-flight=1048576', {
  frameBytes: 4096,
});
test(means, 'unix-connect:/odd:-:-', '/odd:-');
test(means, 'tcp-connect:localhost:9000', { host: 'localhost', port: 9000 });
test(means, 'tcp-connect:[fe80::1%eth0]:1', { host: 'fe80::1%eth0', port: 1 });
test(means, 'tcp-listen:[::1]:0', { host: '::1', port: 0 });
test(means, 'virtserial-open:/dev/virtio-ports/com.example.0', '/dev/virtio-ports/com.example.0');
test(
  means,
  'virtserial-open:/dev/virtio-ports/com.example.0:-',
  '/dev/virtio-ports/com.example.0',
  'virtserial-open:/dev/virtio-ports/com.example.0',
);
test(means, 'virtserial-open:com.example.0', 'com.example.0');
test(
  means,
  'unix-connect:/a,integrity=full,in-flight=65536,frame=1048576',
  '/a',
  'unix-connect:/a,frame=1048576,in-flight=65536,integrity=full',
  { frameBytes: 1_048_576, inFlightBytes: 65_536, integrity: 'full' },
);
test(means, 'unix-connect:/a,frame=131072,integrity=frame', '/a', 'unix-connect:/a');
test(means, 'unix-connect:/a,streams=1024', '/a', 'unix-connect:/a');
test(means, 'unix-listen:/a,streams=1048576,frame=8192', '/a', 'unix-listen:/a,frame=8192,streams=1048576', {
  frameBytes: 8192,
  streams: 1_048_576,
});
test(
  means,
  'tty-open:/dev/ttyS1,streams=1,baud=9600',
  { path: '/dev/ttyS1', baud: 9600 },
  'tty-open:/dev/ttyS1,baud=9600,streams=1',
  { streams: 1 },
);
test(means, 'tty-open:/dev/ttyS1', { path: '/dev/ttyS1', baud: null });
test(
  means,
  'tty-open:/dev/ttyS1:-,in-flight=4096,frame=8192,baud=115200',
  { path: '/dev/ttyS1', baud: 115_200 },
  'tty-open:/dev/ttyS1,baud=115200,frame=8192',
  { frameBytes: 8192 },
);
test(means, 'pipe-open:/run/vm1:-', '/run/vm1', 'pipe-open:/run/vm1');
test(means, 'stdio:', '');
test(means, 'stdio:,integrity=full', '', 'stdio:,integrity=full', { integrity: 'full' });
test(means, 'tty-open:/a,integrity=frame', { path: '/a', baud: null }, 'tty-open:/a,integrity=frame', {
  integrity: 'frame',
});
test(means, 'fd:3', 3);
test(means, 'exec:ssh -o A=b,,c host', 'ssh -o A=b,c host');

const refuses = test.macro({
  title: (_, text: string) => `"${text}" is refused`,
  exec(t, text: string, says: string) {
    const error = t.throws(() => parseChannel(text), { instanceOf: VproxyError, code: 'bad-argument' });
    t.true(error.message.includes(says), error.message);
    t.true(error.message.startsWith('channel "'), error.message);
    t.false(error.message.includes('\n'));
  },
});

const KINDS = 'unix-connect, unix-listen, tcp-connect, tcp-listen, virtserial-open';
test(refuses, '', KINDS);
test(refuses, '/run/vm1.sock', 'there is no kind before the path; did you mean unix-connect:/run/vm1.sock?');
test(refuses, 'UNIX-connect:/a', 'there is no kind "UNIX-connect"; did you mean unix-connect:?');
test(refuses, 'toString:/a', KINDS);
test(refuses, 'unix-connect:', 'a path is missing');
test(refuses, 'unix-connect::-', 'a path is missing');
test(refuses, 'virtserial-open:,frame=4096', 'a path is missing');
test(refuses, `unix-listen:/${'x'.repeat(107)}`, '108 bytes, the system allows 107');
test(refuses, 'tcp-connect:9000', 'is not HOST:PORT');
test(refuses, 'tcp-connect::9000', 'is not HOST:PORT');
test(refuses, 'tcp-connect:host:0', 'a port from 1 to 65535');
test(refuses, 'tcp-listen:host:65536', 'a port from 0 to 65535');
test(refuses, 'tcp-listen:host:1e3', 'is not HOST:PORT');
test(refuses, 'tcp-connect:::1:9000', 'IPv6 address in brackets');
test(refuses, 'tcp-connect:[localhost]:9000', 'is not HOST:PORT');
test(refuses, 'tcp-connect:[::1]', 'is not HOST:PORT');
test(refuses, 'unix-connect:/a,frame=4095', 'a number of bytes from 4096 to 1048576');
test(refuses, 'unix-connect:/a,frame=0x2000', 'a number of bytes from 4096 to 1048576');
test(refuses, 'unix-connect:/a,in-flight=', 'a number of bytes from 1024 to 1073741824');
test(refuses, 'unix-connect:/a,integrity=yes', 'should be frame or full');
test(refuses, 'virtserial-open:com.example.0,integrity=off', 'should be frame or full');
test(refuses, 'unix-connect:/a,streams=0', 'a number from 1 to 1048576');
test(refuses, 'unix-connect:/a,streams=1048577', 'a number from 1 to 1048576');
test(refuses, 'unix-connect:/a,streams=', 'a number from 1 to 1048576');
test(refuses, 'unix-connect:/a,streams=9,streams=9', 'has the option streams twice');
test(refuses, 'unix-connect:/a,integrity', 'should be frame or full');
test(refuses, 'unix-connect:/a,frames=4096', 'no option "frames"; did you mean frame?');
test(refuses, 'unix-connect:/a,', 'has no option ""');
test(refuses, 'unix-connect:/a,frame=4096,frame=4096', 'has the option frame twice');
test(refuses, 'unix-connect:/a,x\n=1', 'no option \"x\\n\"');
test(refuses, 'tty-open:/dev/ttyS1,baud=115201', 'baud=115201, which should be one of 300, 600,');
test(refuses, 'tty-open:/dev/ttyS1,baud=', 'which should be one of');
test(refuses, 'tty-open:/dev/ttyS1,baud=9600,baud=9600', 'has the option baud twice');
test(refuses, 'tty-open:/dev/ttyS1,speed=9600', 'there are: baud, frame, in-flight, integrity, streams');
test(refuses, 'unix-connect:/a,baud=9600', 'no option "baud"; there are: frame, in-flight, integrity, streams');
test(refuses, 'stdio:/dev/tty', 'nothing but options follows the colon');
test(refuses, 'fd:', 'the number of a descriptor');
test(refuses, 'fd:2', 'taken for the log');
test(refuses, 'fd:03', 'the number of a descriptor');
test(refuses, 'fd:-1', 'the number of a descriptor');
test(refuses, 'exec: ', 'a command is missing');

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

test('no text makes the parser throw anything but bad-argument', (t) => {
  const start = fc.constantFrom('', ...[...CHANNEL_KINDS.keys()].map((name) => `${name}:`));
  fc.assert(
    fc.property(start, fc.string({ unit: 'binary' }), (kind, rest) => {
      try {
        parseChannel(kind + rest);
      } catch (error) {
        t.true(error instanceof VproxyError && error.code === 'bad-argument');
      }
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

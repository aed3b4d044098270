/** Inputs for the targets of what guests and origin servers say to an egress, and of groups. */
import fc from 'fast-check';
import { after, choice, tokens } from './pieces.js';

const sizes = fc
  .array(fc.nat(80), { minLength: 1, maxLength: 7 })
  .map((list) => Buffer.from([list.length - 1, ...list]));
const one = (texts: readonly string[]): fc.Arbitrary<Buffer> =>
  fc.constantFrom(...texts).map((text) => Buffer.from(text, 'latin1'));
const joined = (...parts: readonly fc.Arbitrary<Buffer>[]): fc.Arbitrary<Buffer> =>
  fc.tuple(...parts).map((list) => Buffer.concat(list));
const many = (part: fc.Arbitrary<Buffer>, maxLength: number): fc.Arbitrary<Buffer> =>
  fc.array(part, { maxLength }).map((list) => Buffer.concat(list));

const SIGNS = [' ', '\t', '\r', '\n', '\r\n', ':', ',', ';', '\0', '\u007f', 'é', '\u00a0', '%', '@', '[', ']', '#'];
const FIELDS = [
  ...[
    'Host: a.example',
    'X:',
    'x:\t a \t',
    'A-b: é\u00a0',
    'x : y',
    ' folded',
    'no colon',
    ': x',
    'x: \u0001',
    'x: \u007f',
  ],
  ...['Content-Length: 3', 'Transfer-Encoding: chunked', 'x: a\0'],
];
const end = one(['\r\n', '\r\n', '\r\n', '\r\n', '\r\n', '\r\n', '\n', '\r']);
const line = (texts: readonly string[]): fc.Arbitrary<Buffer> =>
  joined(fc.oneof({ weight: 9, arbitrary: one(texts) }, { weight: 1, arbitrary: tokens(SIGNS) }), end);

const chunk = fc.oneof(
  fc
    .tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.constantFrom('', '', ';a=b', ';é', ' ', '0'))
    .map(([bytes, more]) =>
      Buffer.concat([Buffer.from(`${bytes.length.toString(16)}${more}\r\n`, 'latin1'), bytes, Buffer.from('\r\n')]),
    ),
);

/** Bodies of chunks. */
export const chunkInputs = after(
  sizes,
  joined(many(chunk, 4), one(['0\r\n', '000;x\r\n', '0\n', '']), many(line(FIELDS), 2), end, one(['', 'rest'])),
);

const HOSTS = [
  ...['a.example', 'A.Example.', 'xn--mnchen-3ya.de', 'xn--a', 'a_b.c', '-a.b', 'a..b', 'localhost', '0x7f.1', '1.2.3'],
  ...['127.0.0.1', '192.0.2.7', '127.1', '017.0.0.1', '[::1]', '[::ffff:127.0.0.1]', '[2001:DB8::1]', '[fe80::1%25a]'],
  ...['[::', '0', '256.1.1.1', 'a'.repeat(64), ''],
];
const socksHost = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }).map((bytes) => Buffer.from([1, ...bytes])),
  fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from([4, ...bytes])),
  fc.constantFrom(...HOSTS).map((host) => Buffer.from([3, host.length, ...Buffer.from(host)])),
  choice(5),
);

/** What a guest says in SOCKS 5. */
export const socksInputs = after(
  sizes,
  joined(
    one(['\x05\x01\x00', '\x05\x01\x00', '\x05\x02\x02\x00', '\x05\x01\x02', '\x05\x00', '\x04\x01\x00']),
    one(['\x05\x01\x00', '\x05\x01\x00', '\x05\x01\x00', '\x05\x02\x00', '\x05\x01\x01', '\x04\x01\x00']),
    socksHost,
    one(['\x01\xbb', '\x00\x50', '\x00\x00', '\x01', '\x00\x50rest']),
  ),
);

const PATTERNS = ['/run/*.sock', 'vms/*', '/run/a*b', '*', '/*', '/run//*.s,,k', '/run/**', '/*/a', '/run/a', 'x*:-'];
const NAMES = ['vm1.sock', '.sock', '.a.sock', 'a.sock', 'A.sock', 'ab', 'aXb', 'default.sock', 'x1', 'é', '-a', 'a,b'];

/** The addresses of groups, and names of files. */
export const groupInputs = fc.oneof(
  joined(
    one(['unix-connect:', 'unix-connect:', 'unix-connect:', 'unix-listen:', 'unix:']),
    one(PATTERNS),
    one(['', '', ',frame=4096']),
    one(['\n']),
    one(NAMES),
  ),
  joined(
    one(['unix-connect:']),
    tokens([...PATTERNS, ...NAMES, '*', '/', '.']),
    one(['\n']),
    tokens([...NAMES, 'a', 'b', '.'], 3),
  ),
);

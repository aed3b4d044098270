/** Inputs for the targets of what guests, origin servers and DNS servers say to an egress, and of the service `info` and groups. */
import fc from 'fast-check';
import { RECORD_TYPE } from '../../../lib/system/dns/resource-records.js';
import { encodeRecord } from '../../../lib/util/bytes/records.js';
import { after, choice, decisions, tokens } from './pieces.js';

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
const FIRST_LINES = [
  ...['GET http://a.example/ HTTP/1.1', 'CONNECT a.example:443 HTTP/1.0', 'GET / HTTP/2.0', 'GET  / HTTP/1.1'],
  ...['HTTP/1.1 200 OK', 'HTTP/1.0 404', 'HTTP/1.1 099 x', 'HTTP/1.1 200\t', 'HTTP/1.1 1000 x'],
];
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

/** Heads of requests and answers. */
export const headInputs = after(
  decisions(1),
  joined(one(['', '', '\r\n']), line(FIRST_LINES), many(line(FIELDS), 4), end, one(['', 'rest'])),
);

const HOSTS = [
  ...['a.example', 'A.Example.', 'xn--mnchen-3ya.de', 'xn--a', 'a_b.c', '-a.b', 'a..b', 'localhost', '0x7f.1', '1.2.3'],
  ...['127.0.0.1', '192.0.2.7', '127.1', '017.0.0.1', '[::1]', '[::ffff:127.0.0.1]', '[2001:DB8::1]', '[fe80::1%25a]'],
  ...['[::', '0', '256.1.1.1', 'a'.repeat(64), ''],
];
const PORTS = ['', '', ':', ':80', ':443', ':0443', ':0', ':65535', ':65536', ':x'];
const authority = joined(one([...HOSTS]), one(PORTS));
const url = joined(
  one(['http://', 'http://', 'http://', 'HTTP://', 'https://', '', 'http:/']),
  one(['', '', '', '', 'u@']),
  authority,
  one(['', '/', '/a?b', '?x=/', '/#f', '*', '//b']),
);

/** Methods, targets and the Host, which is mostly that of the target. */
export const targetInputs = fc.oneof(
  after(choice(3), joined(url, one(['\n']), authority)),
  fc
    .tuple(fc.nat(3), authority, fc.constantFrom('', '/', '/a?b'))
    .map(([method, host, path]) =>
      Buffer.concat([
        Buffer.from([method]),
        Buffer.from(
          method === 1 ? `${String(host)}\n${String(host)}` : `http://${String(host)}${path}\n${String(host)}`,
        ),
      ]),
    ),
  after(choice(3), tokens([...HOSTS, ...PORTS, ...SIGNS, 'http://'])),
);

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

const word = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
const label = one(['\x01a', '\x07example', '\x03a_b', '\x02\xff.', '\x03A-B']);
const domainName = fc.oneof(
  joined(many(label, 3), one(['\0'])),
  joined(many(label, 2), one(['\xc0\x0c', '\xc0\x0e', '\xc0\x0c', '\xc0\xff'])),
);
const DATA: readonly (readonly [type: number, data: fc.Arbitrary<Buffer>])[] = [
  [RECORD_TYPE.A, one(['\x7f\0\0\x01', '\xc0\0\x02\x07', '\x01\x02\x03'])],
  [RECORD_TYPE.AAAA, one([`${'\0'.repeat(15)}\x01`, `\x20\x01${'\0'.repeat(14)}`])],
  [RECORD_TYPE.CNAME, domainName],
  [RECORD_TYPE.SOA, joined(domainName, domainName, one(['\0'.repeat(20), '\0'.repeat(19)]))],
  [
    RECORD_TYPE.HTTPS,
    joined(one(['\0\x01\0']), one(['', '\0\x04\0\x04\x7f\0\0\x01', '\0\x04\0\x04\xc1\0\0\x01', '\0\x04\0\x05a'])),
  ],
  [16, one(['\x02ab', ''])],
];
const typed = fc.oneof(
  ...DATA.map(([type, data]) =>
    data.map((bytes) => Buffer.concat([word(type), word(1), Buffer.alloc(4, 1), word(bytes.length), bytes])),
  ),
);
const record = joined(domainName, typed);
const option = one(['', '\0\x0f\0\x04\0\x12no', '\0\x0a\0\x02ab', '\0\x0f\0\x01a']).map((data) =>
  Buffer.concat([Buffer.from([0, 0, 41, 4, 208, 0, 0, 128, 0]), word(data.length), data]),
);
const message = fc
  .tuple(
    fc.nat(0xffff),
    joined(domainName, one(['\0\x01\0\x01', '\0\x1c\0\x01'])),
    fc.array(record, { maxLength: 4 }),
    fc.array(record, { maxLength: 2 }),
    fc.array(option, { maxLength: 1 }),
    fc.constantFrom(0x8180, 0x0100, 0x8403),
  )
  .map(([id, question, answers, authorities, options, flags]) =>
    Buffer.concat([
      ...[id, flags, 1, answers.length, authorities.length, options.length].map(word),
      question,
      ...answers,
      ...authorities,
      ...options,
    ]),
  );

/** Messages of DNS, and streams of them. */
export const dnsInputs = fc.oneof(
  after(fc.constant(Buffer.from([0, 0, 7])), message),
  fc
    .tuple(
      sizes,
      fc.array(fc.oneof(message, fc.constant(Buffer.alloc(0)), fc.constant(Buffer.alloc(601))), { maxLength: 3 }),
    )
    .map(([split, list]) =>
      Buffer.concat([Buffer.from([1]), split, ...list.flatMap((bytes) => [word(bytes.length), bytes])]),
    ),
);

const JSON_TEXTS = [
  ...['{"version":1,"about":"machine"}', '{"version":2,"about":"boot"}', '{"about":"x"}', '[]', '{}', '{} {}'],
  ...['{"version":1,"machine":{"a":-0,"b":[1e400]}}', '{"version":1,"machine":null}', '{"version":"1"}'],
  ...['{"timeMs":1.5}', '{"timeMs":-8.64e15}', '{"timeMs":8640000000000001}', '{"timeMs":"1"}'],
];

/** Records of `info`, and payloads. */
export const infoInputs = fc.oneof(
  after(
    fc.constant(Buffer.from([0])),
    after(
      sizes,
      many(
        fc
          .tuple(
            fc.nat(40),
            fc.oneof(
              fc.uint8Array({ maxLength: 40 }),
              fc.constantFrom(256, 257).map((count) => Buffer.alloc(count)),
            ),
          )
          .map(([kind, payload]) => encodeRecord(kind, payload)),
        4,
      ),
    ),
  ),
  after(choice(3), after(sizes, one(JSON_TEXTS))),
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

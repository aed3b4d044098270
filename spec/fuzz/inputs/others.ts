/** Inputs for the targets of written texts, lines and logs, storage, and of guests and origins of an egress. */
import fc from 'fast-check';
import { CHANNEL_KINDS } from '../../../lib/channel/kinds.js';
import { ANY_CHARACTER } from '../../helpers/searches.js';
import { choice, decisions, joined, many, objects, one, sizes, tokens } from './pieces.js';

const GOOD_CHANNELS = [
  'unix-listen:/run/a,,b:-:-,frame=4096,integrity=full',
  'tcp-connect:[fe80::1%eth0]:9000,in-flight=65536',
  'tty-open:/dev/ttyS1:-,baud=115200,frame=8192',
  'vsock-mux-connect:/run/vm:-:-:1234,integrity=full',
  'vsock-connect:2:1234',
  'exec:ssh -o A=b,,c host,frame=4096',
  'unix:////run/a%2Cb:-?frame=4096&integrity=full',
  'tcp://[::1]:9000?streams=9',
  'vsock://2:4294967294',
  'ssh://u%20x@h:22/run/a%20b?in-flight=65536',
  'libvirt:a::b:org.vproxy.0,uri=qemu+unix:///system?socket=/a,,b',
  'qemu:-chardev "socket,id=c0,path=/run/a,,b,server=on,wait=off,frame=4096" \\',
  'qemu:tcp:[::1]:9000,server,nowait,streams=9',
  'qemu:socket,host=0.0.0.0,port=9000,reconnect=10,in-flight=65536',
];
const PIECES_OF_CHANNELS = [
  ...[...CHANNEL_KINDS.keys()].map((kind) => `${kind}:`),
  ...['/run/vm1.sock', '/a,,b', '127.0.0.1', 'localhost', '[::1]', '[fe80::1%eth0]', '[a]', '[a[b]', '3', '22'],
  ...['65536'],
  ...[':', ',', ',,', '=', '-', ':-', '[', ']', '/', '*', ' ', '\n', '\0', '\u001b[2J', '%', '.', '$$', '007', '-1'],
  ...[',frame=4096', ',in-flight=1024', ',integrity=full', ',baud=9600', ',frame=', ',x=1', 'socket', 'server'],
  ...['port=1'],
];

export const channelInputs = fc.oneof(one(GOOD_CHANNELS), tokens(PIECES_OF_CHANNELS));

const HYBRID_LINES = [
  ...['CONNECT ', 'connect', 'OK ', 'OK', ' ', '\t', '\r\n', '\n', '1234', '4294967295', '4294967296', 'ssh'],
];

/** Bytes on a hybrid vsock socket. */
export const hybridInputs = joined(
  decisions(3),
  fc.oneof(
    tokens([...HYBRID_LINES, 'x'.repeat(31), 'y'.repeat(79)], 10),
    fc.nat(2 ** 33).map((number) => Buffer.from(`OK ${number}\nrest`)),
    fc.nat(2 ** 33).map((number) => Buffer.from(`CONNECT ${number}\r\nrest`)),
  ),
);

const UNITS = ['\\', '\n', '\t', '\u001b[2J', '\u202e', '\u2028', '\ufeff', '\ud83d', '\udcbe', '\u{1f4be}', '\u007f'];

/** Texts for the log, as UTF-16. */
export const logInputs = joined(
  choice(255),
  fc
    .array(fc.oneof(fc.constantFrom(...UNITS), fc.string({ unit: ANY_CHARACTER, maxLength: 8 })), { maxLength: 40 })
    .map((list) => Buffer.from(list.join(''), 'utf16le')),
);

const PIECES_OF_XML = [
  ...['<a>', '</a>', '<b ', '/>', '>', 'c="', "c='", '"', "'", ' d=', '<!--', '-->', '<![CDATA[', ']]>', '<?', '?>'],
  ...['&lt;', '&amp;', '&#10;', '&#x26;', '&#xd800;', '&x;', '&', ';', '<!DOCTYPE a>', '<', '\ufeff', 'text'],
];
const GOOD_XML = [
  '<a b="&amp;&#10;\'" c=\'"\'><!-- <x> --><b/><![CDATA[<x>]]></a>',
  '<?xml version="1.0"?><domain id="1"><devices><channel type="unix"/></devices></domain>',
];

/** XML documents. */
export const xmlInputs = fc.oneof(
  one(GOOD_XML),
  joined(one(['<a>', '<a b="']), tokens(PIECES_OF_XML, 12), one(['</a>', '"/>'])),
);

/** Patterns and texts. */
export const globInputs = tokens(['*', '?', 'a', 'b', 'a', 'b', '\n', '/c0'], 40);

/** Lines for a file, after the choice of the first one. */
export const lineInputs = joined(
  choice(255),
  decisions(3),
  many(one(['\n', '\n\n', 'x', 'line\n', 'x'.repeat(130)]), 12),
);

// ---- storage ---------------------------------------------------------------------------------------------------------

const text = fc.oneof(fc.constantFrom('', '/c0', 'show', 'é\u{1f4be}', '}"{\\'), fc.string({ maxLength: 10 }));
const base64 = fc.constantFrom('', 'Yf8=', 'YQ==', 'YWJj', 'a', 'ab=c', '====');
const status = fc.oneof(fc.nat(255), fc.constantFrom(0, 256, -1, 0.5));

const request = objects({ argv: fc.array(text, { maxLength: 5 }), vm: text });
const reply = objects({ stdout: text, stderr: text, status });
const replyOfBytes = objects({ stdout: text, stdoutBase64: base64, stderr: text, status });
const failure = objects({
  error: fc.oneof(
    fc.constant(null),
    fc.record({ code: fc.constantFrom('storage-unavailable', 'denied', 'x'), message: text }),
  ),
});
const entry = fc.record(
  {
    argv: fc.array(text, { minLength: 1, maxLength: 3 }),
    pattern: fc.array(fc.constantFrom('*', '**', '?', 'a', '/x/storcli64'), { minLength: 1, maxLength: 3 }),
    stdout: fc.oneof(text, fc.array(text, { maxLength: 3 })),
    stderrBase64: base64,
    status,
  },
  { requiredKeys: [] },
);
const file = objects({ replies: fc.array(entry, { maxLength: 3 }), default: entry });

/** One message after the choice of its kind. */
export const wireInputs = joined(choice(3), fc.oneof(request, reply, replyOfBytes, failure, file));

const gap = one(['', '\n', '\r\n', ' \t']);
const near = tokens(['{', '}', '"', '\\', '\n', ' ', 'a', '{"a":"b"}', '{"a":{}}\n', 'é'], 20);
const stream = many(fc.oneof(request, reply, replyOfBytes, failure, near, gap), 4);

/** Streams of messages after a bound. */
export const scannerInputs = joined(choice(255), sizes, stream);

/** Bytes of an emulator or a wrapper. */
export const storageStreamInputs = joined(
  decisions(3),
  fc.oneof(joined(reply, gap), joined(request, gap), joined(reply, stream), stream),
);

// ---- egress ----------------------------------------------------------------------------------------------------------

const latin1 = (texts: readonly string[]): fc.Arbitrary<Buffer> => one(texts, 'latin1');

const SIGNS = [' ', '\t', '\r', '\n', '\r\n', ':', ',', ';', '\0', '\u007f', 'é', '\u00a0', '%', '@', '[', ']', '#'];
const FIELDS = [
  ...['Host: a.example', 'X:', 'x:\t a \t', 'A-b: é\u00a0', 'x : y', ' folded', 'no colon', ': x', 'x: \u0001'],
  ...['x: \u007f', 'Content-Length: 3', 'Transfer-Encoding: chunked', 'x: a\0'],
];
const end = latin1(['\r\n', '\r\n', '\r\n', '\r\n', '\r\n', '\r\n', '\n', '\r']);
const line = (texts: readonly string[]): fc.Arbitrary<Buffer> =>
  joined(fc.oneof({ weight: 9, arbitrary: latin1(texts) }, { weight: 1, arbitrary: tokens(SIGNS) }), end);

const chunk = fc
  .tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.constantFrom('', '', ';a=b', ';é', ' ', '0'))
  .map(([bytes, more]) =>
    Buffer.concat([Buffer.from(`${bytes.length.toString(16)}${more}\r\n`, 'latin1'), bytes, Buffer.from('\r\n')]),
  );

/** Chunked bodies. */
export const chunkInputs = joined(
  sizes,
  joined(many(chunk, 4), latin1(['0\r\n', '000;x\r\n', '0\n', '']), many(line(FIELDS), 2), end, latin1(['', 'rest'])),
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

/** SOCKS 5 input of a guest. */
export const socksInputs = joined(
  sizes,
  joined(
    latin1(['\x05\x01\x00', '\x05\x01\x00', '\x05\x02\x02\x00', '\x05\x01\x02', '\x05\x00', '\x04\x01\x00']),
    latin1(['\x05\x01\x00', '\x05\x01\x00', '\x05\x01\x00', '\x05\x02\x00', '\x05\x01\x01', '\x04\x01\x00']),
    socksHost,
    latin1(['\x01\xbb', '\x00\x50', '\x00\x00', '\x01', '\x00\x50rest']),
  ),
);

const PATTERNS = ['/run/*.sock', 'vms/*', '/run/a*b', '*', '/*', '/run//*.s,,k', '/run/**', '/*/a', '/run/a', 'x*:-'];
const NAMES = ['vm1.sock', '.sock', '.a.sock', 'a.sock', 'A.sock', 'ab', 'aXb', 'default.sock', 'x1', 'é', '-a', 'a,b'];

/** The addresses of groups, and names of files. */
export const groupInputs = fc.oneof(
  joined(
    latin1(['unix-connect:', 'unix-connect:', 'unix-connect:', 'unix-listen:', 'unix:']),
    latin1(PATTERNS),
    latin1(['', '', ',frame=4096']),
    latin1(['\n']),
    latin1(NAMES),
  ),
  joined(
    latin1(['unix-connect:']),
    tokens([...PATTERNS, ...NAMES, '*', '/', '.']),
    latin1(['\n']),
    tokens([...NAMES, 'a', 'b', '.'], 3),
  ),
);

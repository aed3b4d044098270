/**
 * Request smuggling (RFC 9112 section 11.2): a guest's bytes in which this side and the server behind it see different
 * requests. The rows are generated: spellings of framing, line ends and targets that some reader understands differently,
 * each around a request that must never reach the server as a separate one.
 */
import test, { type ExecutionContext } from 'ava';
import { EgressScene, OK, RecordingOrigin } from '../../helpers/egress.js';

/** The hidden request. */
const HIDDEN = 'GET http://one.test/hidden HTTP/1.1\r\nHost: one.test\r\n\r\n';

const POST = 'POST http://one.test/ HTTP/1.1\r\nHost: one.test\r\n';
const GET = 'GET http://one.test/ HTTP/1.1\r\nHost: one.test\r\n';
const CHUNKED = 'Transfer-Encoding: chunked\r\n';
const VIA = 'Via: 1.1 vproxy\r\n';
const NO_CHUNKS = '0\r\n\r\n';

/** The heads of POST and GET as a server gets them. */
const POST_AT_ORIGIN = 'POST / HTTP/1.1\r\nHost: one.test\r\n';
const GET_AT_ORIGIN = 'GET / HTTP/1.1\r\nHost: one.test\r\n';
const CHUNKED_AT_ORIGIN = `${POST_AT_ORIGIN}${CHUNKED}${VIA}\r\n`;

/** Field lines that some servers take for a chunked Transfer-Encoding, or ignore. */
const CODINGS = [
  ...['Transfer-Encoding : chunked', 'Transfer-Encoding\t: chunked', ' Transfer-Encoding: chunked'],
  ...['\tTransfer-Encoding: chunked', 'X: y\r\n Transfer-Encoding: chunked', 'Transfer-Encoding\r\n : chunked'],
  ...['Transfer-Encoding:\r\n chunked', 'Transfer-Encoding:\r\n\tchunked', 'Transfer-Encoding: \x0bchunked'],
  ...['Transfer-Encoding: \x0cchunked', 'Transfer-Encoding: chunked\x0b', 'Transfer-Encoding: chunk\x00ed'],
  ...['Transfer-Encoding\x00: chunked', '\x00Transfer-Encoding: chunked', 'Transfer-Encoding: \x00chunked'],
  ...['Transfer-Encoding: xchunked', 'Transfer-Encoding: chunkedx', 'Transfer-Encoding: "chunked"'],
  ...["Transfer-Encoding: 'chunked'", 'Transfer-Encoding: chunked;q=1', 'Transfer-Encoding: chunked chunked'],
  ...['Transfer-Encoding: chunked, chunked', 'Transfer-Encoding: chunked, identity', 'Transfer-Encoding: identity'],
  ...['Transfer-Encoding: gzip, chunked', 'Transfer-Encoding: chunked, gzip', 'Transfer-Encoding: ch\xfcnked'],
  ...['Transfer-Encoding: chunked\r\nTransfer-Encoding: x', 'Transfer-Encoding: x\r\nTransfer-Encoding: chunked'],
  ...['Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked'],
  ...['Transfer-Encoding:', 'Transfer-Encoding: ,', 'Transfer-Encoding', 'Transfer-Encoding; chunked'],
  ...['X: y\nTransfer-Encoding: chunked', 'X: y\rTransfer-Encoding: chunked', 'Transfer-Encoding: chunked\r\r'],
  ...['Transfer Encoding: chunked', 'Transfer-Encoding\x85: chunked', '(Transfer-Encoding): chunked'],
  ...['Transfer-Encoding: \xa0chunked', 'Transfer-Encoding: chunked\xa0'],
];

/** Spellings of length 5 that some servers read as another length. */
const LENGTHS = [
  ...['+5', '-5', '0x5', '5,5', '5, 5', '5, 6', '5 6', '5;', '5.0', '5e0', '5_0', '5L', "'5'", '"5"', '', ','],
  ...['\x0b5', '5\x0c', '5\x00', '\u0665', '18446744073709551621', '9223372036854775813', '0b101', 'five'],
];

/** Chunks whose size or end some servers read differently: none is passed on. */
const CHUNKS = [
  ...['0x5\r\nhello\r\n', '+5\r\nhello\r\n', '-5\r\nhello\r\n', '5 \r\nhello\r\n', ' 5\r\nhello\r\n'],
  ...['5\t\r\nhello\r\n', '\r\nhello\r\n', '\n5\r\nhello\r\n', '5\nhello\r\n', '5\rhello\r\n', '5\r\r\nhello\r\n'],
  ...['g\r\nhello\r\n', '5,5\r\nhello\r\n', '5\x00\r\nhello\r\n', '5_\r\nhello\r\n', '5L\r\nhello\r\n'],
  ...['10000000000000005\r\nhello\r\n', 'ffffffffffffffff\r\nhello\r\n', '5;a\nGET / HTTP/1.1\r\nhello\r\n'],
  ...['5;a\rb\r\nhello\r\n', '5;\x00\r\nhello\r\n', '5\r\nhello\n', '5\r\nhello\r', '5\r\nhello0\r\n\r\n'],
  ...['5\r\nhelloXX', '4\r\nhello\r\n', '6\r\nhello\r\n', '5\r\nhello\r\r\n'],
].map((chunk) => `${chunk}${NO_CHUNKS}`);

/** Bytes that some servers take for the end of chunks, or for a field after them. */
const TRAILERS = [
  ...['0\n\n', '0\r\n\n', '0\r\r\n\r\n', '0\r\nX: a\r\n b\r\n\r\n', '0\r\n X: a\r\n\r\n', '0\r\nX : a\r\n\r\n'],
  ...['0\r\nX\r\n\r\n', '0\r\nX: a\nY: b\r\n\r\n', '0\r\nX: a\rY: b\r\n\r\n', '0\r\nX: a\x00\r\n\r\n'],
  `0\r\n${HIDDEN}`,
];

/** Whole heads and what follows, of which some servers take more or less for the head. */
const HEADS = [
  ...[
    ' HTTP/1.1\nHost: one.test\n\n',
    ' HTTP/1.1\r\nHost: one.test\n\r\n',
    ' HTTP/1.1\r\n\rHost: one.test\r\n\r\n',
  ].map((rest) => `GET http://one.test/${rest}`),
  'GET http://one.test/ HTTP/1.1\r\n Host: two.test\r\nHost: one.test\r\n\r\n',
  ...['GET http://one.test/\r\n\r\n', 'GET http://one.test/ HTTP/0.9\r\n\r\n'],
  ...['OPTIONS *', 'TRACE http://one.test/'].map((first) => `${first} HTTP/1.1\r\nHost: one.test\r\n\r\n`),
  `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`,
  ...['\n', '\r\r\n', ': value\r\n\r\n', 'Content-Length\0: 5\r\n\r\n', 'X: a\0b\r\n\r\n'].map((end) => `${GET}${end}`),
  ...['\n', '\r\n\r\n', ' '].map((before) => `${before}${GET}\r\n`),
  ...['HTTP/1.10', 'HTTP/01.1', 'HTTP/1.2', 'http/1.1', 'HTTP/1.1 HTTP/1.1', 'HTTP/1.1 ', 'x HTTP/1.1'].map(
    (version) => `GET http://one.test/ ${version}\r\nHost: one.test\r\n\r\n`,
  ),
  ...['GET  http://one.test/ ', 'GET\thttp://one.test/\t', 'GET\x0bhttp://one.test/ ', 'G(T http://one.test/ '].map(
    (first) => `${first}HTTP/1.1\r\nHost: one.test\r\n\r\n`,
  ),
  ...['\x0b', '\x85', '\xe9', '#/hidden'].map(
    (path) => `GET http://one.test/${path} HTTP/1.1\r\nHost: one.test\r\n\r\n`,
  ),
  ...['Content-Length: 5\r\n', CHUNKED].map(
    (framing) => `CONNECT one.test:80 HTTP/1.1\r\nHost: one.test:80\r\n${framing}\r\nhello`,
  ),
  ...['one.test@two.test:443', 'one.test:80:443', 'two.test:80', 'one.test', 'http://one.test/'].map(
    (target) => `CONNECT ${target} HTTP/1.1\r\nHost: one.test:80\r\n\r\n`,
  ),
];

/** Fields beside `http://one.test/`, and targets beside `Host: one.test`: readers differ in which of the two counts. */
const HOSTS = [
  ...['Host: two.test', 'Host: one.test:81', 'Host: one.test\r\nHost: two.test', 'Host: one.test, two.test'],
  ...['Host: one.test two.test', 'Host: one.test#two.test', 'Host: one.test/two', 'Host: x@one.test'],
  'Host : one.test',
  ...['Host:', 'X: y', 'Host: one.test\x0b'],
];
const TARGETS = [
  ...['http://one.test:81/', 'http://two.test@one.test/', 'http://one.test\\@two.test/', 'http://[one.test]/'],
  ...['http://one.test%2f@two.test/', 'http:one.test/', 'http:/one.test/', 'http:///one.test/', '//one.test/', '/'],
  ...['one.test/', 'https://one.test/', 'ftp://one.test/', 'http://one.test:99999/'],
];

const REFUSED: readonly string[] = [
  ...[...CODINGS, 'Transfer-Encoding: chunked'].flatMap((line) => [
    `${POST}Content-Length: 5\r\n${line}\r\n\r\n${NO_CHUNKS}`,
    `${POST}${line}\r\nContent-Length: 5\r\n\r\n${NO_CHUNKS}`,
  ]),
  ...CODINGS.map((line) => `${POST}${line}\r\n\r\n${NO_CHUNKS}`),
  `POST http://one.test/ HTTP/1.0\r\n${CHUNKED}\r\n${NO_CHUNKS}`,
  ...LENGTHS.map((length) => `${POST}Content-Length: ${length}\r\n\r\nhello`),
  ...[...LENGTHS, '5'].map((length) => `${POST}Content-Length: 5\r\nContent-Length: ${length}\r\n\r\nhello`),
  ...HEADS,
  ...HOSTS.map((fields) => `GET http://one.test/ HTTP/1.1\r\n${fields}\r\n\r\n`),
  ...TARGETS.map((target) => `GET ${target} HTTP/1.1\r\nHost: one.test\r\n\r\n`),
].map((words) => `${words}${HIDDEN}`);

/** Refused in the middle of a body: the server gets the head, and no end. */
const BROKEN_OFF = [...CHUNKS, ...TRAILERS].map((body) => `${POST}${CHUNKED}\r\n${body}${HIDDEN}`);

/** Rewritten so that only one reading is left and the hidden part stays a body. The guest's bytes, and the server's. */
const REWRITTEN: Readonly<Record<string, readonly [words: string, atOrigin: string]>> = {
  'a body that looks like a request, by its length': [
    `${POST}Content-Length: ${HIDDEN.length}\r\n\r\n${HIDDEN}`,
    `${POST_AT_ORIGIN}Content-Length: ${HIDDEN.length}\r\n${VIA}\r\n${HIDDEN}`,
  ],
  'a body that looks like a request, in chunks': [
    `${POST}${CHUNKED}\r\n${HIDDEN.length.toString(16)}\r\n${HIDDEN}\r\n${NO_CHUNKS}`,
    `${CHUNKED_AT_ORIGIN}${HIDDEN.length.toString(16)}\r\n${HIDDEN}\r\n${NO_CHUNKS}`,
  ],
  'a body of a GET': [
    `${GET}Content-Length: ${HIDDEN.length}\r\n\r\n${HIDDEN}`,
    `${GET_AT_ORIGIN}Content-Length: ${HIDDEN.length}\r\n${VIA}\r\n${HIDDEN}`,
  ],
  'a length, a Host and another field that Connection names': [
    `${POST}Content-Length: 2\r\nConnection: content-length, host, x-secret\r\nX-Secret: 1\r\nX-Other: 2\r\n\r\nhi`,
    `${POST_AT_ORIGIN}X-Other: 2\r\nContent-Length: 2\r\n${VIA}\r\nhi`,
  ],
  'a coding that Connection names': [
    `${POST}Connection: transfer-encoding\r\n${CHUNKED}\r\n${NO_CHUNKS}`,
    `${CHUNKED_AT_ORIGIN}${NO_CHUNKS}`,
  ],
  'a length with zeros before it': [
    `${POST}Content-Length: 0000000002\r\n\r\nhi`,
    `${POST_AT_ORIGIN}Content-Length: 2\r\n${VIA}\r\nhi`,
  ],
  'a coding in capitals, with blanks around it': [
    `${POST}TRANSFER-ENCODING:\t CHUNKED \t\r\n\r\n${NO_CHUNKS}`,
    `${CHUNKED_AT_ORIGIN}${NO_CHUNKS}`,
  ],
  'extensions of chunks that look like requests, and trailers that are fields of framing': [
    `${POST}${CHUNKED}\r\n2;GET /hidden HTTP/1.1\r\nhi\r\n1;a="b;c"\r\n!\r\n000\r\nContent-Length: 99\r\nHost: two.test\r\n\r\n`,
    `${CHUNKED_AT_ORIGIN}2\r\nhi\r\n1\r\n!\r\n${NO_CHUNKS}`,
  ],
  'fields of a connection, and of a proxy': [
    `${GET}Connection: Upgrade, HTTP2-Settings, X-Hop\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nX-Hop: 1\r\nKeep-Alive: 1\r\n` +
      'Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\nTrailer: Host\r\nX-Kept: 1\r\n\r\n',
    `${GET_AT_ORIGIN}X-Kept: 1\r\n${VIA}\r\n`,
  ],
  'a request after one that closes': [
    `${GET}Connection: close\r\n\r\n${HIDDEN}`,
    `${GET_AT_ORIGIN}${VIA}Connection: close\r\n\r\n`,
  ],
  'an escaped end of line in the target': [
    'GET http://one.test/%0d%0a%0d%0aGET%20/hidden HTTP/1.1\r\nHost: one.test\r\n\r\n',
    `GET /%0d%0a%0d%0aGET%20/hidden HTTP/1.1\r\nHost: one.test\r\n${VIA}\r\n`,
  ],
  'a Via, and a value with obsolete bytes': [
    `${GET}Via: 1.0 other\r\nX: \xff\x80\r\n\r\n`,
    `${GET_AT_ORIGIN}Via: 1.0 other\r\nX: \xff\x80\r\n${VIA}\r\n`,
  ],
  'a target without a path': [
    'GET http://one.test?q HTTP/1.1\r\nHost: one.test\r\n\r\n',
    `GET /?q HTTP/1.1\r\nHost: one.test\r\n${VIA}\r\n`,
  ],
  'OPTIONS without a path, which is about the server': [
    'OPTIONS http://one.test HTTP/1.1\r\nHost: one.test\r\nMax-Forwards: 3\r\n\r\n',
    `OPTIONS * HTTP/1.1\r\nHost: one.test\r\nMax-Forwards: 2\r\n${VIA}\r\n`,
  ],
  'a Host in capitals, with the usual port and a final dot': [
    'GET HTTP://One.Test:80/ HTTP/1.1\r\nHost: ONE.test.\r\n\r\n',
    `${GET_AT_ORIGIN}${VIA}\r\n`,
  ],
};

/** Sends bytes to an egress that allows two servers. */
async function say(t: ExecutionContext, words: string, options = {}, answer = OK) {
  const other = await RecordingOrigin.start(t);
  const origin = await RecordingOrigin.start(t, [answer]);
  const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port, 'two.test:80': other.port } });
  const told = await scene.say(words, options);
  return { atOrigin: origin.bytes, atOther: other.bytes, scene, told };
}

/** The last answer to a guest, so that nothing after it is read as a request: its status, and its line. */
const LAST_WORD = /^HTTP\/1\.1 (400|501|505) [\w ]+\r\n(?:[^\r\n]+\r\n)*Connection: close\r\n\r\nvproxy: ([^\n]+)\n$/;

/** Sends each text: each is refused with a line (`lineCount` different ones), and the server gets only what it may. */
async function areRefused(
  t: ExecutionContext,
  { all, lineCount, answer }: { readonly all: readonly string[]; readonly lineCount: number; readonly answer?: string },
  isRight: (dialled: number, atOrigin: string) => boolean,
): Promise<void> {
  const lines = new Set<string>();
  const faults: string[] = [];
  for (const words of all) {
    const { atOrigin, atOther, scene, told } = await say(t, words, { isEnding: false }, answer);
    const [, status, line] = LAST_WORD.exec(told) ?? [];
    lines.add(`${status} ${line?.replace(/^".*" is not a plain/, 'not a plain')}`);
    const isRefused = status !== undefined && scene.refused.length === 1 && atOther === '';
    if (!isRefused || !isRight(scene.dialled.length, atOrigin))
      faults.push(JSON.stringify({ words, told, dialled: scene.dialled, atOrigin, atOther }));
  }
  t.deepEqual(faults, []);
  t.is(lines.size, lineCount, [...lines].sort().join('\n'));
}

test(`${REFUSED.length} forms of request smuggling are refused for their head, before anything is dialled, with a reason`, async (t) => {
  t.true(REFUSED.length >= 100);
  await areRefused(t, { all: REFUSED, lineCount: 31 }, (dialled, atOrigin) => dialled === 0 && atOrigin === '');
});

test(`${BROKEN_OFF.length} forms of request smuggling are cut off in the body that they begin, with a reason`, async (t) => {
  // A server that answers before the body has come would end the exchange.
  const forms = { all: BROKEN_OFF, lineCount: 6, answer: '' };
  // A connection torn down at once may lose sent bytes, but nothing else may arrive.
  await areRefused(t, forms, (_, bytes) => {
    const isBeginning = bytes.startsWith(CHUNKED_AT_ORIGIN) || CHUNKED_AT_ORIGIN.startsWith(bytes);
    return isBeginning && !bytes.endsWith(NO_CHUNKS) && !bytes.includes('hidden');
  });
});

test('an OPTIONS that may go no further is refused', async (t) => {
  const { atOrigin, told } = await say(
    t,
    'OPTIONS http://one.test HTTP/1.1\r\nHost: one.test\r\nMax-Forwards: 0\r\n\r\n',
  );
  t.is(atOrigin, '');
  t.regex(told, /^HTTP\/1\.1 501 .*vproxy: Max-Forwards is 0\n$/s);
});

for (const [name, [words, expected]] of Object.entries(REWRITTEN)) {
  test(`rewritten for the server: ${name}`, async (t) => {
    const { atOrigin, atOther, scene, told } = await say(t, words);
    t.is(told, OK.replace('\r\n\r\n', `\r\n${VIA}${words.includes('close') ? 'Connection: close\r\n' : ''}\r\n`));
    t.deepEqual([atOrigin, atOther], [expected, '']);
    t.deepEqual(scene.refused, []);
  });
}

test('bytes after a refused request are not read as another one', async (t) => {
  const words = `CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n${HIDDEN}`;
  const { atOrigin, scene, told } = await say(t, words, { isEnding: false });
  t.regex(told, /^HTTP\/1\.1 403 .*Connection: close\r\n\r\nvproxy: [^\n]+\n$/s);
  t.deepEqual(scene.dialled, ['denied.test:443']);
  t.is(atOrigin, '');
});

/** Requests that two readers could take for different ones (RFC 9112 section 11.2): what reaches the origin server, byte by byte. */
import test from 'ava';
import { EgressScene, OK, RecordingOrigin } from '../../helpers/egress.js';

/** A request that a server must never see on its own. */
const HIDDEN = 'GET http://one.test/hidden HTTP/1.1\r\nHost: one.test\r\n\r\n';

const POST = 'POST http://one.test/ HTTP/1.1\r\nHost: one.test\r\n';
const GET = 'GET http://one.test/ HTTP/1.1\r\nHost: one.test\r\n';

/** Refused for its head: nothing is dialled. By the name of the case: what the guest says, the line of the answer, and its status. */
const REFUSED_HEADS: Readonly<Record<string, readonly [request: string, line: string, status?: number]>> = {
  'Content-Length and Transfer-Encoding': [
    `${POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${HIDDEN}`,
    'there are both a Content-Length and a Transfer-Encoding',
  ],
  'Transfer-Encoding and Content-Length, the other way round': [
    `${POST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n${HIDDEN}`,
    'there are both a Content-Length and a Transfer-Encoding',
  ],
  'two lengths that differ': [
    `${POST}Content-Length: 0\r\nContent-Length: ${HIDDEN.length}\r\n\r\n${HIDDEN}`,
    'the Content-Length is not one number',
  ],
  'two lengths that are the same': [
    `${POST}Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi`,
    'the Content-Length is not one number',
  ],
  'a list of lengths': [`${POST}Content-Length: 2, 2\r\n\r\nhi`, 'the Content-Length is not one number'],
  'a length with a plus': [`${POST}Content-Length: +2\r\n\r\nhi`, 'the Content-Length is not one number'],
  'a negative length': [`${POST}Content-Length: -1\r\n\r\nhi`, 'the Content-Length is not one number'],
  'a hexadecimal length': [`${POST}Content-Length: 0x2\r\n\r\nhi`, 'the Content-Length is not one number'],
  'an empty length': [`${POST}Content-Length:\r\n\r\nhi`, 'the Content-Length is not one number'],
  'a length beyond what can be counted': [
    `${POST}Content-Length: 18446744073709551618\r\n\r\nhi`,
    'the Content-Length is not one number',
  ],
  'a length with a space within': [`${POST}Content-Length: 1 0\r\n\r\nhi`, 'the Content-Length is not one number'],
  'a coding besides chunked': [
    `${POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
    'the Transfer-Encoding is not chunked',
  ],
  'a coding behind chunked': [
    `${POST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`,
    'the Transfer-Encoding is not chunked',
  ],
  'chunked twice': [
    `${POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    'the Transfer-Encoding is not chunked',
  ],
  'a coding that looks like chunked': [
    `${POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
    'the Transfer-Encoding is not chunked',
  ],
  'chunked with a parameter': [
    `${POST}Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n`,
    'the Transfer-Encoding is not chunked',
  ],
  'chunked in quotes': [`${POST}Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n`, 'the Transfer-Encoding is not chunked'],
  'an empty Transfer-Encoding': [`${POST}Transfer-Encoding:\r\n\r\n`, 'the Transfer-Encoding is not chunked'],
  'a Transfer-Encoding with a vertical tab': [
    `${POST}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n`,
    'a header field is not NAME: VALUE',
  ],
  'chunked in HTTP/1.0': [
    'POST http://one.test/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'there is a Transfer-Encoding in HTTP/1.0',
  ],
  'white space before the colon': [
    `${POST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
    'there is white space before the colon of a header field',
  ],
  'a folded field': [
    `${POST}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n`,
    'a header field is folded onto another line',
  ],
  'a Connection of 257 elements': [
    `${GET}Connection:${','.repeat(256)}\r\n\r\n`,
    'a header field is a list of more than 256 elements',
  ],
  'a field without a name': [`${GET}: value\r\n\r\n`, 'a header field is not NAME: VALUE'],
  'a field without a colon': [`${GET}Content-Length\r\n\r\n`, 'a header field is not NAME: VALUE'],
  'white space before the first field': [
    'GET http://one.test/ HTTP/1.1\r\n Host: two.test\r\nHost: one.test\r\n\r\n',
    'a header field is folded onto another line',
  ],
  'lines that end with LF alone': [
    `GET http://one.test/ HTTP/1.1\nHost: one.test\n\n${HIDDEN}`,
    'a line ends with LF alone',
  ],
  'an LF within a field': [`${GET}X: a\nContent-Length: 5\r\n\r\n`, 'a line ends with LF alone'],
  'a CR within a field': [`${GET}X: a\rContent-Length: 5\r\n\r\n`, 'there is a CR without LF'],
  'an empty line of two CRs': [`${GET}\r\r\n${HIDDEN}`, 'there is a CR without LF'],
  'a NUL within a field': [`${GET}X: a\0b\r\n\r\n`, 'there is a NUL in the head'],
  'a NUL in the name of a field': [`${POST}Content-Length\0: 5\r\n\r\n`, 'there is a NUL in the head'],
  'a tab in the first line': [
    'GET\thttp://one.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n',
    'the first line is no request of HTTP/1.1',
  ],
  'two spaces in the first line': [
    'GET  http://one.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n',
    'the first line is no request of HTTP/1.1',
  ],
  'a space in the target': [
    'GET http://one.test/ x HTTP/1.1\r\nHost: one.test\r\n\r\n',
    'the first line is no request of HTTP/1.1',
  ],
  'a byte beyond ASCII in the target': [
    'GET http://one.test/\xe9 HTTP/1.1\r\nHost: one.test\r\n\r\n',
    'the first line is no request of HTTP/1.1',
  ],
  'no version': ['GET http://one.test/\r\n\r\n', 'the first line is no request of HTTP/1.1'],
  'HTTP/2.0': ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'only HTTP/1.1 and HTTP/1.0 are spoken here', 505],
  'HTTP/1.2': [
    'GET http://one.test/ HTTP/1.2\r\nHost: one.test\r\n\r\n',
    'only HTTP/1.1 and HTTP/1.0 are spoken here',
    505,
  ],
  'two Hosts': [`${GET}Host: one.test\r\n\r\n`, 'there is more than one Host'],
  'no Host': ['GET http://one.test/ HTTP/1.1\r\n\r\n', 'there is no Host'],
  'the Host of another': [
    'GET http://one.test/ HTTP/1.1\r\nHost: two.test\r\n\r\n',
    'the Host is not that of the target',
  ],
  'the Host with another port': [
    'GET http://one.test/ HTTP/1.1\r\nHost: one.test:81\r\n\r\n',
    'the Host is not that of the target',
  ],
  'a fragment in the target': [
    'GET http://one.test/#a HTTP/1.1\r\nHost: one.test\r\n\r\n',
    'the target of the request has a fragment',
  ],
  'a user in the target': [
    'GET http://one.test@two.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n',
    'a destination has no user name',
  ],
  'a user behind a backslash': [
    'GET http://one.test\\@two.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n',
    'a destination has no user name',
  ],
  'a user in the target of a CONNECT': [
    'CONNECT one.test@two.test:443 HTTP/1.1\r\nHost: one.test\r\n\r\n',
    'a destination has no user name',
  ],
  'a name in brackets': [
    'GET http://[one.test]/ HTTP/1.1\r\nHost: one.test\r\n\r\n',
    'the destination is no HOST:PORT',
  ],
  'two ports': [
    'CONNECT one.test:80:443 HTTP/1.1\r\nHost: one.test\r\n\r\n',
    'the destination of a CONNECT is HOST:PORT',
  ],
  'a CONNECT with a body': [
    `CONNECT one.test:80 HTTP/1.1\r\nHost: one.test:80\r\nContent-Length: 5\r\n\r\nhello`,
    'a CONNECT has no body',
  ],
  'a chunked CONNECT': [
    `CONNECT one.test:80 HTTP/1.1\r\nHost: one.test:80\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    'a CONNECT has no body',
  ],
  'the Host of another in a CONNECT': [
    'CONNECT one.test:80 HTTP/1.1\r\nHost: two.test:80\r\n\r\n',
    'the Host is not that of the target',
  ],
};

for (const [name, [request, line, status = 400]] of Object.entries(REFUSED_HEADS)) {
  test(`refused before anything is dialled: ${name}`, async (t) => {
    const origin = await RecordingOrigin.start(t);
    const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port, 'two.test:80': origin.port } });
    const answer = await scene.say(request, { isEnding: false });
    t.true(answer.startsWith(`HTTP/1.1 ${status} `), answer);
    t.true(answer.endsWith(`\r\nConnection: close\r\n\r\nvproxy: ${line}\n`), answer);
    t.deepEqual(scene.dialled, []);
    t.is(origin.bytes, '');
    t.is(scene.refused.length, 1);
  });
}

const CHUNKED = `${POST}Transfer-Encoding: chunked\r\n\r\n`;
const CHUNKED_AT_ORIGIN = 'POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\nVia: 1.1 vproxy\r\n\r\n';

/** Refused in the midst of a body: its origin gets what was right, and no end of it. */
const REFUSED_BODIES: Readonly<Record<string, readonly [body: string, atOrigin: string, line: string]>> = {
  'a size that is none': ['zz\r\nhello\r\n', '', 'a chunk does not begin with its size'],
  'a size with 0x': ['0x5\r\nhello\r\n0\r\n\r\n', '', 'a chunk does not begin with its size'],
  'a negative size': ['-5\r\nhello\r\n0\r\n\r\n', '', 'a chunk does not begin with its size'],
  'a size with a space behind it': ['5 \r\nhello\r\n0\r\n\r\n', '', 'a chunk does not begin with its size'],
  'a size beyond what can be counted': ['ffffffffffffffff1\r\nhello\r\n', '', 'a chunk does not begin with its size'],
  'an empty size': ['\r\nhello\r\n', '', 'a chunk does not begin with its size'],
  'a size that ends with LF alone': ['5\nhello\r\n0\r\n\r\n', '', 'a line of a chunked body does not end with CRLF'],
  'a CR in an extension': ['5;a\rb\r\nhello\r\n0\r\n\r\n', '', 'a line of a chunked body does not end with CRLF'],
  'an extension with an LF': [
    '5;a\nGET / HTTP/1.1\r\nhello\r\n',
    '',
    'a line of a chunked body does not end with CRLF',
  ],
  'a chunk longer than its size': ['3\r\nhello\r\n0\r\n\r\n', '3\r\nhel\r\n', 'a line of a chunked body is too long'],
  'a chunk shorter than its size': [
    `6\r\nhello\r\n0\r\n\r\n${HIDDEN}`,
    '6\r\nhello\r\r\n',
    'a line of a chunked body does not end with CRLF',
  ],
  'a trailer that is folded': ['0\r\nX: a\r\n b\r\n\r\n', '', 'a header field is folded onto another line'],
  'a trailer that is no field': [`0\r\n${HIDDEN}`, '', 'a header field is not NAME: VALUE'],
};

for (const [name, [body, atOrigin, line]] of Object.entries(REFUSED_BODIES)) {
  test(`refused in the midst of a body: ${name}`, async (t) => {
    const origin = await RecordingOrigin.start(t, ['']);
    const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port } });
    const answer = await scene.say(`${CHUNKED}${body}`, { isEnding: false });
    t.true(answer.startsWith('HTTP/1.1 400 Bad Request\r\n'), answer);
    t.true(answer.endsWith(`\r\nConnection: close\r\n\r\nvproxy: ${line}\n`), answer);
    t.deepEqual(scene.dialled, ['one.test:80']);
    // A connection that is torn down at once may lose what was sent on it, but nothing else may come.
    t.true(`${CHUNKED_AT_ORIGIN}${atOrigin}`.startsWith(origin.bytes), origin.bytes);
    t.false(origin.bytes.includes('hidden'));
  });
}

/** Let through, as something else: what the origin gets for it. */
const REWRITTEN: Readonly<Record<string, readonly [request: string, atOrigin: string]>> = {
  'extensions and trailers of a chunked body are dropped': [
    `${CHUNKED}5;ext="a;b"\r\nhello\r\n000\r\nX-Trailer: a\r\nContent-Length: 7\r\n\r\n`,
    `${CHUNKED_AT_ORIGIN}5\r\nhello\r\n0\r\n\r\n`,
  ],
  'the name of a coding is in any case': [
    `${POST}transfer-encoding:\t Chunked \r\n\r\n0\r\n\r\n`,
    `${CHUNKED_AT_ORIGIN}0\r\n\r\n`,
  ],
  'a length with leading zeros is written as a number': [
    `${POST}Content-Length: 0005\r\n\r\nhello`,
    'POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 5\r\nVia: 1.1 vproxy\r\n\r\nhello',
  ],
  'a body of a GET stays a body': [
    `${GET}Content-Length: ${HIDDEN.length}\r\n\r\n${HIDDEN}`,
    `GET / HTTP/1.1\r\nHost: one.test\r\nContent-Length: ${HIDDEN.length}\r\nVia: 1.1 vproxy\r\n\r\n${HIDDEN}`,
  ],
  'Connection takes no framing, and no Host, away': [
    `${POST}Content-Length: 2\r\nConnection: content-length, host, x-secret\r\nX-Secret: 1\r\nX-Other: 2\r\n\r\nhi`,
    'POST / HTTP/1.1\r\nHost: one.test\r\nX-Other: 2\r\nContent-Length: 2\r\nVia: 1.1 vproxy\r\n\r\nhi',
  ],
  'fields of the connection are removed': [
    `${GET}Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n` +
      'Proxy-Authorization: Basic eA==\r\nTE: trailers\r\nTrailer: X\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nX-Kept: 1\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: one.test\r\nX-Kept: 1\r\nVia: 1.1 vproxy\r\n\r\n',
  ],
  'a Via is added to those before it': [
    `${GET}Via: 1.0 other\r\n\r\n`,
    'GET / HTTP/1.1\r\nHost: one.test\r\nVia: 1.0 other\r\nVia: 1.1 vproxy\r\n\r\n',
  ],
  'an obsolete byte in a value stays as it is': [
    `${GET}X: \xff\x80\r\n\r\n`,
    'GET / HTTP/1.1\r\nHost: one.test\r\nX: \xff\x80\r\nVia: 1.1 vproxy\r\n\r\n',
  ],
  'a target without a path gets one': [
    'GET http://one.test?q HTTP/1.1\r\nHost: one.test\r\n\r\n',
    'GET /?q HTTP/1.1\r\nHost: one.test\r\nVia: 1.1 vproxy\r\n\r\n',
  ],
  'OPTIONS without a path is about the server': [
    'OPTIONS http://one.test HTTP/1.1\r\nHost: one.test\r\nMax-Forwards: 3\r\n\r\n',
    'OPTIONS * HTTP/1.1\r\nHost: one.test\r\nMax-Forwards: 2\r\nVia: 1.1 vproxy\r\n\r\n',
  ],
  'a Host in capitals, with the usual port and a final dot, is the same': [
    'GET HTTP://One.Test:80/ HTTP/1.1\r\nHost: ONE.test.\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: one.test\r\nVia: 1.1 vproxy\r\n\r\n',
  ],
};

for (const [name, [request, atOrigin]] of Object.entries(REWRITTEN)) {
  test(`let through: ${name}`, async (t) => {
    const origin = await RecordingOrigin.start(t);
    const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port } });
    const answer = await scene.say(request);
    t.is(answer, OK.replace('\r\n\r\n', '\r\nVia: 1.1 vproxy\r\n\r\n'));
    t.is(origin.bytes, atOrigin);
    t.deepEqual(scene.refused, []);
  });
}

test('what follows a refused request is not read as another one', async (t) => {
  const origin = await RecordingOrigin.start(t);
  const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port } });
  const answer = await scene.say(`CONNECT two.test:443 HTTP/1.1\r\nHost: two.test:443\r\n\r\n${HIDDEN}`);
  t.regex(answer, /^HTTP\/1\.1 403 .*Connection: close\r\n\r\nvproxy: [^\n]+\n$/s);
  t.deepEqual(scene.dialled, ['two.test:443']);
  t.is(origin.bytes, '');
});

test('what an origin sends behind its answer is nobody’s answer', async (t) => {
  const origin = await RecordingOrigin.start(t, [`${OK}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong`, OK]);
  const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port } });
  const answer = await scene.say(`${GET}\r\n${GET}\r\n`);
  t.is(answer.match(/\r\n\r\nok/g)?.length, 2);
  t.false(answer.includes('wrong'));
  t.is(origin.received.length, 2, 'the connection is not used again');
});

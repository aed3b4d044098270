/** Answers of origin servers, including hostile ones: what the guest gets, and that nothing of one answer is in the next. */
import type net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { type EgressScene, get, OK, readAll, readUntil, sceneTo } from '../../helpers/egress.js';

const HEAD = 'HTTP/1.1 200 OK\r\n';
const HI = 'Content-Length: 2\r\n';
const CHUNKED = 'Transfer-Encoding: chunked\r\n';
const VIA = 'Via: 1.1 vproxy\r\n';

/** An answer after a hostile one, which must not reach the guest. */
const HIDDEN = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden';

/** An egress to a server that answers its first request with `answer`, and further ones in order. */
function sceneOf(t: ExecutionContext, answer: string, isClosing = false): Promise<EgressScene> {
  let asked = 0;
  const serve = (socket: net.Socket) =>
    socket.on('data', () => {
      asked += 1;
      if (asked > 1) socket.write(OK);
      else if (isClosing) socket.end(answer, 'latin1');
      else socket.write(answer, 'latin1');
    });
  return sceneTo(t, serve, { places: ['one.test:80', 'two.test:80'] });
}

// ---- invalid answers ----------------------------------------------------------------------------------------------

/** Fields of an ambiguous framing. */
const FRAMINGS = [
  ...[`${HI}${CHUNKED}`, `${CHUNKED}${HI}`, `${HI}${HI}`, 'Content-Length: 2\r\nContent-Length: 60\r\n'],
  ...['Content-Length: 2, 2\r\n', 'Content-Length: +2\r\n', 'Content-Length: -2\r\n', 'Content-Length: 0x2\r\n'],
  ...['Content-Length: 2.0\r\n', 'Content-Length:\r\n', 'Content-Length: two\r\n', `Content-Length: ${2n ** 64n}\r\n`],
  ...['Transfer-Encoding: gzip\r\n', 'Transfer-Encoding: gzip, chunked\r\n', 'Transfer-Encoding: xchunked\r\n'],
  ...[`${CHUNKED}${CHUNKED}`, 'Transfer-Encoding: chunked, identity\r\n', 'Transfer-Encoding:\r\n'],
  ...['Transfer-Encoding: \x0bchunked\r\n', 'Transfer-Encoding : chunked\r\n', 'Transfer-Encoding:\r\n chunked\r\n'],
];

/** Lines of a head that are not fields, or not lines. */
const LINES = [
  ...['X\r\n', ': y\r\n', 'X : y\r\n', 'X\t: y\r\n', 'X: a\r\n b\r\n', ' X: a\r\n', 'X Y: a\r\n', 'X\x7f: a\r\n'],
  ...['X: a\nY: b\r\n', 'X: a\rY: b\r\n', 'X: a\x00b\r\n', 'X: a\x0bb\r\n', 'X: \x1b[2J\r\n'],
  ...['X: a\x7fb\r\n', '\r\r\n'],
  ...[`X: ${'x'.repeat(70_000)}`, 'X: y\r\n'.repeat(12_000), 'X: 1\r\n'.repeat(1000)],
  `Connection: ${'a, '.repeat(256)}\r\n`,
];

/** First lines that are not an HTTP/1.1 status line. */
const STATUS_LINES = [
  ...['HTTP/2 200 OK', 'HTTP/2.0 200 OK', 'HTTP/1.2 200 OK', 'HTTP/0.9 200 OK', 'http/1.1 200 OK', 'ICY 200 OK'],
  ...['HTTP/1.1 20 OK', 'HTTP/1.1 2000 OK', 'HTTP/1.1 000 OK', 'HTTP/1.1 099 OK', 'HTTP/1.1 +20 OK', 'HTTP/1.1 OK'],
  ...['HTTP/1.1  200 OK', ' HTTP/1.1 200 OK', 'HTTP/1.1\t200 OK', 'HTTP/1.1 200 O\x0bK', 'SSH-2.0-OpenSSH_9.2'],
];

const BAD: readonly string[] = [
  ...FRAMINGS.map((fields) => `${HEAD}${fields}\r\n${HIDDEN}`),
  ...LINES.map((line) => `${HEAD}${line}${HI}\r\nhi`),
  ...STATUS_LINES.map((line) => `${line}\r\n${HI}\r\nhi`),
  `HTTP/1.0 200 OK\r\n${CHUNKED}\r\n2\r\nhi\r\n0\r\n\r\n`,
  `HTTP/1.1 200 OK\nContent-Length: 2\n\nhi`,
  `\r\n\r\n${HEAD}${HI}\r\nhi`,
  `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n${HIDDEN}`,
];

/** Also bad if the server closes the connection after them. */
const BAD_ENDS = ['', 'hello\r\n\r\n', `${HEAD}${HI}`];

const BAD_ANSWER =
  /^HTTP\/1\.1 502 Bad Answer\r\nContent-Type: text\/plain\r\nContent-Length: (\d+)\r\nProxy-Status: vproxy; error=[a-z_]+\r\nCache-Control: no-store\r\n\r\n(vproxy: one\.test:80 ([\x20-\x7e]+)\n)(.*)$/s;

test(`${BAD.length + BAD_ENDS.length} invalid or missing answers are 502 with one of 18 reasons, and the next request is served`, async (t) => {
  const reasons = new Set<string>();
  for (const answer of [...BAD, ...BAD_ENDS]) {
    const scene = await sceneOf(t, answer, BAD_ENDS.includes(answer));
    const told = await scene.say(`${get('one.test')}${get('two.test')}`);
    const [, length, line = '', reason = '', next] = BAD_ANSWER.exec(told) ?? [];
    t.is(next, `${HEAD}${HI}${VIA}\r\nok`, JSON.stringify([answer.slice(0, 100), told]));
    t.is(line.length, Number(length));
    t.like(scene.refused[0]?.facts, { reason: 'bad-answer', destination: 'one.test:80', rule: null });
    reasons.add(reason.replace('sent an invalid answer: ', ''));
  }
  t.is(reasons.size, 18, [...reasons].join('\n'));
});

/** Invalid chunks: their valid part has been sent by the time that shows. */
const CHUNKS = [
  ...['zz\r\nhi\r\n', '-2\r\nhi\r\n', '0x2\r\nhi\r\n', '2 \r\nhi\r\n', '\r\nhi\r\n', '2\nhi\r\n', '2\r\nhi\n'],
  '2\r\nhiX\r\n',
  ...['fffffffffffffffff\r\nhi\r\n', `2;${'x'.repeat(1100)}\r\nhi\r\n`, '2;a\rb\r\nhi\r\n', '0\r\nX: a\r\n b\r\n\r\n'],
  ...['0\r\nno field\r\n\r\n', `0\r\nX: ${'x'.repeat(17_000)}\r\n\r\n`, `0\r\n${HIDDEN}`],
].map((chunks) => `${HEAD}${CHUNKED}\r\n${chunks}0\r\n\r\n`);

/** Answers cut off when the server closes the connection after them. */
const HALF = [
  `${HEAD}Content-Length: 60\r\n\r\nhi`,
  ...['2\r\nhi\r\n', '60\r\nhi', '2\r\nhi\r\nzz\r\n'].map((chunks) => `${HEAD}${CHUNKED}\r\n${chunks}`),
];

test('an answer that is cut off is a reset, never an answer that looks complete', async (t) => {
  for (const answer of [...CHUNKS, ...HALF]) {
    const scene = await sceneOf(t, answer, HALF.includes(answer));
    await t.throwsAsync(
      scene.say(get('one.test')),
      { code: 'local-error', message: /dropped the connection|cut off/ },
      answer.slice(0, 100),
    );
  }
});

// ---- answers that are passed on -----------------------------------------------------------------------------------

/** An answer, what the guest gets for it, and what is unusual: it is for a HEAD, closes, is the last of its connection. */
type Row = readonly [answer: string, told: string, ...('HEAD' | 'closing' | 'last')[]];

/** A head as the guest gets it. */
const via = (head: string, body = ''): string => `${head}${VIA}\r\n${body}`;

const EMPTY = 'HTTP/1.1 204 No Content\r\n';
const UNCHANGED = 'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 49\r\n';
const LONG = `${HEAD}Content-Length: 1000\r\n`;
const HIDING = `${HEAD}Content-Length: ${HIDDEN.length}\r\n`;
const CHUNKS_OF_HI = '2\r\nhi\r\n0\r\n\r\n';

const PASSED: Readonly<Record<string, Row>> = {
  'the answer to a HEAD keeps its length and has no body': [`${LONG}\r\n`, via(LONG), 'HEAD'],
  'the answer to a HEAD needs no length': [`${HEAD}${CHUNKED}\r\n`, via(HEAD), 'HEAD'],
  'a body for a HEAD is dropped, with the connection': [`${HIDING}\r\n${HIDDEN}`, via(HIDING), 'HEAD', 'last'],
  'a 304 keeps its length and has no body': [`${UNCHANGED}\r\n`, via(UNCHANGED)],
  'a body of a 304 is dropped, with the connection': [`${UNCHANGED}\r\n${HIDDEN}`, via(UNCHANGED), 'last'],
  'a 204 has neither': [`${EMPTY}\r\n`, via(EMPTY)],
  'a body of a 204 is dropped, with the connection': [
    `${EMPTY}Content-Length: 60\r\n\r\n${HIDDEN}`,
    via(EMPTY),
    'last',
  ],
  'chunks of a 204 are dropped, with the connection': [`${EMPTY}${CHUNKED}\r\n${CHUNKS_OF_HI}`, via(EMPTY), 'last'],
  'a second answer after the first one is dropped, with the connection': [
    `${HEAD}${HI}\r\nhi${HIDDEN}`,
    via(`${HEAD}${HI}`, 'hi'),
    'last',
  ],
  'a second answer after chunks is dropped, with the connection': [
    `${HEAD}${CHUNKED}\r\n${CHUNKS_OF_HI}${HIDDEN}`,
    via(`${HEAD}${CHUNKED}`, CHUNKS_OF_HI),
    'last',
  ],
  'an empty body is a body': [`${HEAD}Content-Length: 0\r\n\r\n`, via(`${HEAD}Content-Length: 0\r\n`)],
  'a status without a phrase is passed on': [
    'HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n',
    via('HTTP/1.1 299 \r\nContent-Length: 0\r\n'),
  ],
  'chunks are rewritten, without extensions and trailers': [
    `${HEAD}${CHUNKED}Trailer: X\r\n\r\n2;HTTP/1.1 200 OK\r\nhi\r\n0\r\nContent-Length: 9\r\nSet-Cookie: x\r\n\r\n`,
    via(`${HEAD}${CHUNKED}`, CHUNKS_OF_HI),
  ],
  'fields of the connection, and of a proxy, are removed; Connection cannot remove the framing': [
    `${HEAD}Connection: X-Hop, content-length\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n` +
      `Proxy-Authenticate: Basic\r\nProxy-Connection: close\r\nTrailer: X\r\n${HI}\r\nhi`,
    via(`${HEAD}${HI}`, 'hi'),
  ],
  'the end of the connection is the end of an answer without a length': [
    `${HEAD}\r\nhi`,
    via(`${HEAD}${CHUNKED}`, CHUNKS_OF_HI),
    'closing',
    'last',
  ],
  'informational answers come before the final one': [
    `HTTP/1.1 103 Early Hints\r\nConnection: X\r\nX: y\r\nLink: </a>\r\n\r\n${HEAD}${HI}\r\nhi`,
    via('HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n', via(`${HEAD}${HI}`, 'hi')),
  ],
};

for (const [name, [answer, told, ...how]] of Object.entries(PASSED)) {
  test(`passed on: ${name}`, async (t) => {
    const scene = await sceneOf(t, answer, how.includes('closing'));
    const guest = scene.open();
    guest.write(get('one.test').replace('GET', how.includes('HEAD') ? 'HEAD' : 'GET'));
    t.is(await readUntil(guest, told), told);
    guest.end(get('one.test'));
    t.is((await readAll(guest)).toString('latin1'), via(`${HEAD}${HI}`, 'ok'));
    t.is(scene.dialled.length, how.includes('last') ? 2 : 1);
  });
}

test('an HTTP/1.0 program gets no informational answer, no chunks, and the end of its connection', async (t) => {
  const scene = await sceneOf(t, `HTTP/1.1 103 Early Hints\r\n\r\n${HEAD}${CHUNKED}\r\n5\r\nhello\r\n0\r\n\r\n`);
  const told = await scene.say('GET http://one.test/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n', { isEnding: false });
  t.is(told, `${HEAD}${VIA}Connection: close\r\n\r\nhello`);
});

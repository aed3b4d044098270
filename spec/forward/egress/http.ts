/** Requests in absolute form: one connection of a guest, its requests in turn, and their answers. */
import { randomBytes } from 'node:crypto';
import test from 'ava';
import { deferred } from '../../../lib/util/concurrency.js';
import { EgressScene, get, httpServer, OK, readAll, readUntil, sceneTo, sceneToOrigin } from '../../helpers/egress.js';
import { sha256 } from '../../helpers/files.js';
import { eventually } from '../../helpers/time.js';

const ANSWERED = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 vproxy\r\n\r\nok';
const POST = 'POST http://one.test/ HTTP/1.1\r\nHost: one.test\r\n';

const HEAD_413 = 'HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n';

test('a request in absolute form reaches its origin server in origin form, and the answer comes back', async (t) => {
  const { origin, scene } = await sceneToOrigin(t);
  t.is(await scene.say(get('one.test', '/a?b', 'User-Agent: curl\r\nProxy-Connection: Keep-Alive\r\n')), ANSWERED);
  t.is(origin.bytes, 'GET /a?b HTTP/1.1\r\nHost: one.test\r\nUser-Agent: curl\r\nVia: 1.1 vproxy\r\n\r\n');
  const left = await eventually(() => scene.left[0], { what: 'the end of the connection' });
  t.like(left.facts, {
    ...{ egress: 'internet', host: 'one.test', port: 80, address: `127.0.0.1:${origin.port}` },
    ...{ rule: 'allow "one.test:80"', uploadedBytes: origin.bytes.length, downloadedBytes: OK.length, code: null },
  });
  const old = await scene.say('GET http://one.test/ HTTP/1.0\r\n\r\n', { isEnding: false });
  t.is(old, ANSWERED.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
  t.is(origin.received[1], 'GET / HTTP/1.1\r\nHost: one.test\r\nVia: 1.0 vproxy\r\nConnection: close\r\n\r\n');
});

test('one connection carries requests to two origin servers over a connection each, until the rules change, and a tunnel', async (t) => {
  const places = ['one.test:80', 'two.test:8080', 'two.test:443'];
  const { origin, scene } = await sceneToOrigin(t, { places });
  const guest = scene.open();
  const fetch = async (...hosts: readonly string[]): Promise<void> => {
    for (const host of hosts) {
      guest.write(get(host));
      t.is(await readUntil(guest, 'ok'), ANSWERED);
    }
  };
  await fetch('one.test', 'two.test:8080', 'one.test', 'two.test:8080', 'one.test');
  t.deepEqual(scene.dialled, places.slice(0, 2));
  t.deepEqual(
    origin.received.map((text) => text.match(/Host: \S+/g)),
    [
      ['Host: one.test', 'Host: one.test', 'Host: one.test'],
      ['Host: two.test:8080', 'Host: two.test:8080'],
    ],
  );
  scene.rules = { ...scene.rules };
  await fetch('one.test', 'one.test');
  t.deepEqual(scene.dialled.slice(2), ['one.test:80']);
  guest.end('CONNECT two.test:443 HTTP/1.1\r\nHost: two.test:443\r\n\r\nGET / HTTP/1.1\r\n\r\n');
  t.is((await readAll(guest)).toString(), `HTTP/1.1 200 Connection Established\r\n\r\n${OK}`);
  t.is(origin.received[3], 'GET / HTTP/1.1\r\n\r\n');
  await eventually(() => scene.left.length === 4, { what: 'all connections to be left' });
});

test('pipelined requests are answered in order, even if one is refused', async (t) => {
  const port = await httpServer(t, (request, response) => response.end(`page ${request.url}`));
  const scene = new EgressScene(t, { routes: { 'one.test:80': port } });
  const paths = Array.from({ length: 20 }, (_, index) => `/${index}`);
  const isRefused = (path: string): boolean => path === '/7';
  const answers = await scene.say(paths.map((path) => get(isRefused(path) ? 'two.test' : 'one.test', path)).join(''));
  t.deepEqual(
    answers.match(/page \/\d+|vproxy: [^\n]+(?=\n)/g),
    paths.map((path) =>
      isRefused(path) ? 'vproxy: two.test:80 is not allowed by egress "internet" on the host' : `page ${path}`,
    ),
  );
  t.deepEqual(scene.dialled, ['one.test:80', 'two.test:80']);
});

/** Encodes a body in chunks of 50,000 bytes, and decodes it. */
function chunk(body: Buffer): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at < body.length; at += 50_000) {
    const piece = body.subarray(at, at + 50_000);
    pieces.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'));
  }
  return Buffer.concat([...pieces, Buffer.from('0\r\n\r\n')]);
}
function unchunk(bytes: Buffer): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf('\r\n', at);
    const size = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16);
    if (size === 0) return Buffer.concat(pieces);
    pieces.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size));
    at = lineEnd + 4 + size;
  }
}

for (const isChunked of [false, true]) {
  test(`bodies of some MiB ${isChunked ? 'in chunks' : 'of a known length'} arrive whole in both directions`, async (t) => {
    const body = randomBytes(3 * 2 ** 20 + 7);
    const port = await httpServer(t, (request, response) => {
      if (!isChunked) response.setHeader('Content-Length', request.headers['content-length'] ?? '');
      request.pipe(response);
    });
    const scene = new EgressScene(t, { routes: { 'one.test:80': port } });
    const framing = isChunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`;
    const guest = scene.open();
    guest.write(`${POST}Connection: close\r\n${framing}\r\n\r\n`);
    guest.end(isChunked ? chunk(body) : body);
    const bytes = await readAll(guest);
    const told = bytes.subarray(bytes.indexOf('\r\n\r\n') + 4);
    t.is(sha256(isChunked ? unchunk(told) : told), sha256(body));
  });
}

test('a program that waits for 100 Continue gets it from the origin server and then sends its body', async (t) => {
  const port = await httpServer(t, (request, response) => request.pipe(response));
  const guest = new EgressScene(t, { routes: { 'one.test:80': port } }).open();
  guest.write(`${POST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n`);
  t.is(await readUntil(guest, '\r\n\r\n'), 'HTTP/1.1 100 Continue\r\nVia: 1.1 vproxy\r\n\r\n');
  guest.write('hello');
  t.regex(await readUntil(guest, '0\r\n\r\n'), /^HTTP\/1\.1 200 OK\r\n.*5\r\nhello\r\n0\r\n\r\n$/s);
});

test('an answer that comes before the whole body was sent is passed on, and ends the connection', async (t) => {
  const { scene } = await sceneToOrigin(t, { answers: [`${HEAD_413}no`] });
  const answer = await scene.say(`${POST}Content-Length: 500\r\n\r\nhello`, { isEnding: false });
  t.is(answer, 'HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nVia: 1.1 vproxy\r\nConnection: close\r\n\r\nno');
  await eventually(() => scene.target.openCount === 0, { what: 'the end of the conversation' });
  t.deepEqual(scene.closed, [null]);
});

for (const [what, sent, told] of [
  ['passed on if it is whole', 'no', /^HTTP\/1\.1 413 Too Large\r\n.*\r\n\r\nno$/s],
  ['a reset if it is cut off', 'n', null],
] as const)
  test(`an answer of an origin server that closes with unread input, so that a write fails, is ${what}`, async (t) => {
    const scene: EgressScene = await sceneTo(t, (socket) => {
      socket.once('data', () => {
        socket.write(`${HEAD_413}${sent}`);
        socket.resetAndDestroy();
        // Written before the answer is read.
        guest.write('body');
      });
    });
    const guest = scene.open();
    guest.write(`${POST}Content-Length: 500\r\n\r\n`);
    const answer = readAll(guest);
    if (told === null) await t.throwsAsync(answer, { code: 'local-error', message: /dropped the connection|cut off/ });
    else t.regex(String(await answer), told);
    const left = await eventually(() => scene.left[0], { what: 'the end of the connection' });
    t.like(left.facts, { downloadedBytes: HEAD_413.length + sent.length, code: 'local-error' });
  });

test('a connection reset by an origin server does not end an answer without a length', async (t) => {
  const scene = await sceneTo(t, (socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\nhalf');
      // At once: a reset that arrives together with bytes looks like EOF.
      socket.resetAndDestroy();
    });
  });
  for (let round = 0; round < 10; round += 1)
    await t.throwsAsync(scene.say(get('one.test')), { code: 'local-error', message: /dropped the connection|cut off/ });
});

test('a kept connection closed by its origin is replaced, for a request that may be sent twice', async (t) => {
  // Each connection takes two requests, and answers one.
  let count = 0;
  const scene = await sceneTo(t, (socket) => {
    count += 1;
    socket.once('data', () => {
      socket.write(OK);
      socket.once('data', () => socket.destroy());
    });
  });
  const body = 'Content-Length: 2\r\n\r\nhi';
  const toDelete = get('one.test').replace('GET', 'DELETE');
  for (const words of [get('one.test'), `${POST}${body}`, toDelete, `${get('one.test').slice(0, -2)}${body}`]) {
    const guest = scene.open();
    const before = count;
    guest.write(get('one.test'));
    t.is(await readUntil(guest, 'ok'), ANSWERED);
    guest.write(words);
    if (words === get('one.test')) t.is(await readUntil(guest, 'ok'), ANSWERED);
    else t.regex(await readUntil(guest, 'vproxy: '), /^HTTP\/1\.1 502 /, words);
    t.is(count - before, words === get('one.test') ? 2 : 1, words);
  }
});

test('a refused HEAD has no body', async (t) => {
  const answer = await new EgressScene(t).say(get('one.test').replace('GET', 'HEAD'));
  t.regex(answer, /^HTTP\/1\.1 403 Not Allowed By vproxy\r\n.*Content-Length: \d\d\r\n.*\r\n\r\n$/s);
});

test('while an upgrade waits for requests, these are the last, and further ones wait for a second: a successor can serve their streams', async (t) => {
  const port = await httpServer(t, (_, response) => response.end('ok'));
  const dialled = deferred();
  const beforeDialled = () => (scene.dialled.length === 1 ? Promise.resolve() : dialled.promise);
  const scene = new EgressScene(t, { routes: { 'one.test:80': port }, beforeDialled });
  const { pair, streams, target } = scene;
  const ask = () => {
    const guest = scene.open();
    guest.write(get('one.test'));
    return guest;
  };
  await readUntil(ask(), 'ok');
  const busy = ask();
  await eventually(() => scene.dialled.length === 2);
  target.letWait(false);
  const held = ask();
  const ended = ask();
  await eventually(() => streams[3]?.receivedBytes === get('one.test').length);
  ended.destroy();
  t.deepEqual(target.endedByPeer(), [streams[1]?.id]);
  dialled.resolve();
  // It can be the obstacle of each look, as one of many programs that go on.
  t.regex(String(await readAll(busy)), /^HTTP\/1.1 200 OK\r\n(?:.+\r\n)*Connection: close\r\n/);
  t.true(target.letWait(true));
  t.false(target.letWait(true));
  t.deepEqual(target.obstacles, []);
  t.false(streams[2]?.isAnswered);
  t.deepEqual(streams[2]?.state.waiting?.pieces.map(String), [get('one.test')]);
  pair.clock.advance(1000);
  await readUntil(held, 'ok');
  t.is(scene.dialled.length, 3);
});

/** Requests in absolute form: one connection of a guest, its requests one after the other, and what becomes of each answer. */
import { createHash, randomBytes } from 'node:crypto';
import type net from 'node:net';
import test from 'ava';
import { EgressScene, httpServer, OK, RecordingOrigin, readAll, readUntil } from '../../helpers/egress.js';
import { localServer } from '../../helpers/proxies.js';
import { eventually } from '../../helpers/time.js';

/** A request for a page of a server at port 80. */
const get = (host: string, path = '/', fields = ''): string =>
  `GET http://${host}${path} HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n`;

const ANSWERED = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 vproxy\r\n\r\nok';

const sha256 = (bytes: Buffer | string): string => createHash('sha256').update(bytes).digest('hex');

test('a request in absolute form reaches its origin server in origin form, and the answer comes back', async (t) => {
  const origin = await RecordingOrigin.start(t);
  const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port } });
  t.is(await scene.say(get('one.test', '/a?b', 'User-Agent: curl\r\nProxy-Connection: Keep-Alive\r\n')), ANSWERED);
  t.is(origin.bytes, 'GET /a?b HTTP/1.1\r\nHost: one.test\r\nUser-Agent: curl\r\nVia: 1.1 vproxy\r\n\r\n');
  const left = await eventually(() => scene.left[0], { what: 'the end of the connection' });
  t.like(left.facts, {
    egress: 'internet',
    host: 'one.test',
    port: 80,
    address: `127.0.0.1:${origin.port}`,
    rule: 'allow "one.test:80"',
    uploadedBytes: origin.bytes.length,
    downloadedBytes: OK.length,
    code: null,
  });
});

test('one connection carries requests to two origin servers, each of which gets one connection', async (t) => {
  const [one, two] = [await RecordingOrigin.start(t), await RecordingOrigin.start(t)];
  const scene = new EgressScene(t, { routes: { 'one.test:80': one.port, 'two.test:8080': two.port } });
  const guest = scene.open();
  for (const host of ['one.test', 'two.test:8080', 'one.test', 'two.test:8080', 'one.test']) {
    guest.write(get(host));
    t.is(await readUntil(guest, 'ok'), ANSWERED);
  }
  t.deepEqual(scene.dialled, ['one.test:80', 'two.test:8080']);
  t.is(one.received.length, 1);
  t.is(one.bytes.match(/GET \/ HTTP\/1\.1\r\nHost: one\.test\r\n/g)?.length, 3);
  t.is(two.bytes.match(/GET \/ HTTP\/1\.1\r\nHost: two\.test:8080\r\n/g)?.length, 2);
  guest.end();
  t.is((await readAll(guest)).length, 0);
  await eventually(() => scene.left.length === 2, { what: 'both connections to be left' });
});

test('under other rules a destination is asked for anew, also where its connection was kept', async (t) => {
  const origin = await RecordingOrigin.start(t);
  const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port } });
  const guest = scene.open();
  for (let round = 0; round < 3; round += 1) {
    if (round === 2) scene.rules = { ...scene.rules };
    guest.write(get('one.test'));
    await readUntil(guest, 'ok');
  }
  t.is(scene.dialled.length, 2);
});

test('of more origin servers than four the one used longest ago is left', async (t) => {
  const origin = await RecordingOrigin.start(t);
  const names = ['a', 'b', 'c', 'd', 'e', 'b', 'a'].map((name) => `${name}.test`);
  const scene = new EgressScene(t, { routes: Object.fromEntries(names.map((name) => [`${name}:80`, origin.port])) });
  const guest = scene.open();
  for (const name of names) {
    guest.write(get(name));
    await readUntil(guest, 'ok');
  }
  t.deepEqual(
    scene.dialled,
    ['a', 'b', 'c', 'd', 'e', 'a'].map((name) => `${name}.test:80`),
  );
});

test('requests that come ahead of the answers are answered in their order, also where one is refused', async (t) => {
  const port = await httpServer(t, (request, response) => response.end(`page ${request.url}`));
  const scene = new EgressScene(t, { routes: { 'one.test:80': port } });
  const paths = Array.from({ length: 20 }, (_, index) => `/${index}`);
  const requests = paths.map((path) => get(path === '/7' ? 'two.test' : 'one.test', path)).join('');
  const answers = await scene.say(requests);
  const pages = answers.match(/page \/\d+|vproxy: [^\n]+\n/g);
  const refused = 'vproxy: two.test:80 is not allowed by egress "internet" on the host\n';
  t.deepEqual(
    pages,
    paths.map((path) => (path === '/7' ? refused : `page ${path}`)),
  );
  t.deepEqual(scene.dialled, ['one.test:80', 'two.test:80']);
});

for (const [name, framing] of Object.entries({ 'of a known length': 'length', 'in chunks': 'chunked' } as const)) {
  test(`bodies of some MiB ${name} arrive whole, both ways`, async (t) => {
    const body = randomBytes(3 * 2 ** 20 + 7);
    const port = await httpServer(t, (request, response) => {
      const pieces: Buffer[] = [];
      request.on('data', (piece: Buffer) => pieces.push(piece));
      request.on('end', () => {
        const bytes = Buffer.concat(pieces);
        response.setHeader('X-Hash', sha256(bytes));
        if (framing === 'length') response.setHeader('Content-Length', bytes.length);
        response.write(bytes.subarray(0, 100_000));
        response.end(bytes.subarray(100_000));
      });
    });
    const scene = new EgressScene(t, { routes: { 'one.test:80': port } });
    const guest = scene.open();
    const answer = readAll(guest);
    const head = 'PUT http://one.test/x HTTP/1.1\r\nHost: one.test\r\nConnection: close\r\n';
    if (framing === 'length') {
      guest.write(`${head}Content-Length: ${body.length}\r\n\r\n`);
      guest.end(body);
    } else {
      guest.write(`${head}Transfer-Encoding: chunked\r\n\r\n`);
      for (let at = 0; at < body.length; at += 50_000) {
        const piece = body.subarray(at, at + 50_000);
        guest.write(Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n')]));
      }
      guest.end('0\r\n\r\n');
    }
    const bytes = await answer;
    const text = bytes.toString('latin1', 0, bytes.indexOf('\r\n\r\n') + 4);
    t.regex(text, new RegExp(`X-Hash: ${sha256(body)}\r\n`));
    const received = bytes.subarray(text.length);
    if (framing === 'length') t.is(sha256(received), sha256(body));
    else t.is(sha256(unchunk(received)), sha256(body));
  });
}

/** The body of chunks. */
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

test('an answer that ends with its connection is sent in chunks, and another request may follow', async (t) => {
  const body = randomBytes(300_000).toString('hex');
  const server = await localServer(t, (socket) => {
    socket.once('data', () => socket.end(`HTTP/1.1 200 OK\r\nX: 1\r\n\r\n${body}`));
  });
  const scene = new EgressScene(t, { routes: { 'one.test:80': server.port } });
  const guest = scene.open();
  for (let round = 0; round < 2; round += 1) {
    guest.write(get('one.test'));
    const answer = await readUntil(guest, '\r\n0\r\n\r\n');
    const head = 'HTTP/1.1 200 OK\r\nX: 1\r\nTransfer-Encoding: chunked\r\nVia: 1.1 vproxy\r\n\r\n';
    t.true(answer.startsWith(head));
    t.true(unchunk(Buffer.from(answer.slice(head.length), 'latin1')).toString() === body);
  }
  t.is(scene.dialled.length, 2);
});

test('a program of HTTP/1.0 is named in Via, and its origin is asked for the end of the connection', async (t) => {
  const origin = await RecordingOrigin.start(t);
  const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port } });
  const answer = await scene.say('GET http://one.test/ HTTP/1.0\r\n\r\n', { isEnding: false });
  t.is(answer, 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 vproxy\r\nConnection: close\r\n\r\nok');
  t.is(origin.bytes, 'GET / HTTP/1.1\r\nHost: one.test\r\nVia: 1.0 vproxy\r\nConnection: close\r\n\r\n');
});

test('a program that waits for 100 Continue gets it from the origin server, and then sends its body', async (t) => {
  const port = await httpServer(t, (request, response) => request.pipe(response));
  const scene = new EgressScene(t, { routes: { 'one.test:80': port } });
  const guest = scene.open();
  guest.write('POST http://one.test/ HTTP/1.1\r\nHost: one.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n');
  t.is(await readUntil(guest, '\r\n\r\n'), 'HTTP/1.1 100 Continue\r\nVia: 1.1 vproxy\r\n\r\n');
  guest.write('hello');
  t.regex(await readUntil(guest, '0\r\n\r\n'), /^HTTP\/1\.1 200 OK\r\n.*5\r\nhello\r\n0\r\n\r\n$/s);
});

test('an answer that comes before the body is whole is passed on, and ends the connection', async (t) => {
  const origin = await RecordingOrigin.start(t, ['HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno']);
  const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port } });
  const answer = await scene.say(
    'POST http://one.test/ HTTP/1.1\r\nHost: one.test\r\nContent-Length: 500\r\n\r\nhello',
    {
      isEnding: false,
    },
  );
  t.is(answer, 'HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nVia: 1.1 vproxy\r\nConnection: close\r\n\r\nno');
  await eventually(() => scene.target.openCount === 0, { what: 'the end of the conversation' });
  t.deepEqual(scene.closed, [null]);
});

test('a connection reset by an origin server is no end of an answer without a length', async (t) => {
  const server = await localServer(t, (socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\nhalf');
      // At once, so that the reset is there along with the bytes, which looks like an end.
      socket.resetAndDestroy();
    });
  });
  const scene = new EgressScene(t, { routes: { 'one.test:80': server.port } });
  for (let round = 0; round < 10; round += 1) {
    await t.throwsAsync(scene.say(get('one.test')), { code: 'local-error', message: /broke off/ });
  }
});

test('a kept connection that its origin has closed is made anew, for a request that may be sent twice', async (t) => {
  // Each connection takes two requests, and answers one.
  const sockets: net.Socket[] = [];
  const server = await localServer(t, (socket) => {
    sockets.push(socket);
    let count = 0;
    socket.on('data', () => {
      count += 1;
      if (count === 1) socket.write(OK);
      else socket.destroy();
    });
  });
  const scene = new EgressScene(t, { routes: { 'one.test:80': server.port } });
  const guest = scene.open();
  for (let round = 0; round < 2; round += 1) {
    guest.write(get('one.test'));
    t.is(await readUntil(guest, 'ok'), ANSWERED);
  }
  t.is(sockets.length, 2);
  guest.write('POST http://one.test/ HTTP/1.1\r\nHost: one.test\r\nContent-Length: 2\r\n\r\nhi');
  t.regex(await readUntil(guest, 'vproxy: '), /^HTTP\/1\.1 502 /);
  t.is(sockets.length, 2, 'a POST is not sent twice');
});

test('a tunnel may follow requests on the same connection', async (t) => {
  const origin = await RecordingOrigin.start(t);
  const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port, 'one.test:443': origin.port } });
  const answer = await scene.say(
    `${get('one.test')}CONNECT one.test:443 HTTP/1.1\r\nHost: one.test:443\r\n\r\nGET / HTTP/1.1\r\n\r\n`,
  );
  t.is(answer, `${ANSWERED}HTTP/1.1 200 Connection Established\r\n\r\n${OK}`);
  t.is(origin.received[1], 'GET / HTTP/1.1\r\n\r\n');
});

test('a refused HEAD has no body', async (t) => {
  const scene = new EgressScene(t);
  const answer = await scene.say('HEAD http://one.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n');
  t.regex(answer, /^HTTP\/1\.1 403 Not Allowed By vproxy\r\n.*Content-Length: \d\d\r\n.*\r\n\r\n$/s);
});

test('a program that is gone takes the connection to its origin server along', async (t) => {
  let closed = 0;
  const server = await localServer(t, (socket) => {
    socket.on('data', () => undefined);
    socket.once('end', () => {
      closed += 1;
    });
  });
  const scene = new EgressScene(t, { routes: { 'one.test:80': server.port } });
  const guest = scene.open();
  guest.write(get('one.test'));
  await eventually(() => scene.dialled.length === 1);
  guest.destroy();
  await eventually(() => closed === 1, { what: 'the end of the connection' });
  await eventually(() => scene.target.openCount === 0);
  t.is(scene.closed.length, 1);
});

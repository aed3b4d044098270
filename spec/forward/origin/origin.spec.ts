/** Requests of a guest to an `origin:`, what its server gets, and what comes back. */
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import type net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { deferred } from '../../../lib/util/concurrency.js';
import { makeCertificate } from '../../helpers/certificates.js';
import { httpServer, RecordingOrigin, readAll, readUntil } from '../../helpers/egress.js';
import { temporaryFolder } from '../../helpers/files.js';
import { OriginScene, request } from '../../helpers/origins.js';
import { freePort } from '../../helpers/ports.js';
import { localServer } from '../../helpers/proxies.js';
import { eventually } from '../../helpers/time.js';

const KEY = 'sk-0123456789';

function keyFile(t: ExecutionContext, text = `${KEY}\n`): string {
  const path = join(temporaryFolder(t), 'key');
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

async function recording(t: ExecutionContext, options: string) {
  const origin = await RecordingOrigin.start(t);
  return { origin, scene: new OriginScene(t, `http://127.0.0.1:${origin.port},${options}`) };
}

test('an allowed request gets the host’s fields in place of the guest’s, under any of their names', async (t) => {
  const { origin, scene } = await recording(t, `allow=GET:/v1/*,header=X-Api-Key:@${keyFile(t)},header=x-team:a b`);
  const fields = [
    ...['x-api-key: stolen', 'X-API-KEY: b', 'x_api_key: c', 'Connection: x-api-key, keep-alive', 'X_Team: d'],
    ...['X-Forwarded-For: 1.2.3.4', 'Forwarded: for=1', 'X-HTTP-Method-Override: DELETE', 'X_Original_URL: /admin'],
    ...['x.api.key: f', 'X-HTTP.Method-Override: DELETE', 'Transfer_Encoding: chunked', 'Content.Length: 3'],
    ...['Accept: */*', 'Te: trailers', 'Proxy-Authorization: e'],
  ];
  const answer = await scene.say(request('GET /v1/%6dodels?a=b', fields.map((field) => `${field}\r\n`).join('')));
  t.is(answer, 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 vproxy\r\n\r\nok');
  t.is(
    origin.bytes,
    `GET /v1/models?a=b HTTP/1.1\r\nHost: 127.0.0.1:${origin.port}\r\nAccept: */*\r\nX-Api-Key: ${KEY}\r\nx-team: a b\r\nVia: 1.1 vproxy\r\n\r\n`,
  );
  const [fact] = scene.fieldsOf('origin-request');
  t.like(fact, { method: 'GET', path: '/v1/%6dodels', status: 200, uploadedBytes: 0, downloadedBytes: 2, code: null });
  t.false(JSON.stringify(scene.events).includes(KEY));
});

const REFUSED: readonly (readonly [request: string, status: number])[] = [
  [request('POST /v1/x', 'Content-Length: 0\r\n'), 403],
  [request('GET /v2'), 403],
  [request('GET /v1'), 403],
  [request('get /v1/x'), 403],
  [request('GET /v1/../admin'), 403],
  [request('GET /v1/%2e%2e/admin'), 403],
  [request('GET /v1/a%2fb'), 403],
  [request('GET //v1/x'), 403],
  [request('GET http://other.test/v1/x'), 403],
  [request('CONNECT other.test:443'), 403],
  [request('OPTIONS *'), 403],
  [request('GET /v1/x', 'Connection: Upgrade\r\nUpgrade: websocket\r\n'), 403],
  [request('TRACE /v1/x'), 501],
  [request('Track /v1/x'), 501],
  [request('GET /v1/x', 'Host: other.test\r\n'), 400],
  ['GET /v1/x HTTP/1.1\r\n\r\n', 400],
  [request('GET /v1/x', 'Content-Length: 3\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'), 400],
  [request('GET /v1/x', 'Content-Length: 3\r\nContent-Length: 4\r\n', 'abcd'), 400],
  [request('GET /v1/x', 'Transfer-Encoding: gzip, chunked\r\n', '0\r\n\r\n'), 400],
  [request('GET /v1/x', 'A : b\r\n'), 400],
  [request('GET /v1/x', 'A: b\r\n c\r\n'), 400],
  ['GET /v1/x HTTP/1.1\nHost: a\n\n', 400],
  ['GET /v1/x HTTP/2.0\r\nHost: a\r\n\r\n', 505],
];

test('what is not allowed, or can be read in two ways, never reaches the server; the answer says that vproxy refused it', async (t) => {
  const { origin, scene } = await recording(t, 'allow=GET:/v1/*');
  for (const [text, status] of REFUSED) {
    const answer = await scene.say(text);
    t.regex(answer, new RegExp(`^HTTP/1\\.1 ${status} [^]*\\r\\nProxy-Status: vproxy; error=http_request_`), text);
    t.regex(answer, /vproxy: [\x20-\x7e]+\n$/);
  }
  t.is(origin.bytes, '');
  t.is(scene.fieldsOf('origin-refused').length, REFUSED.length);
  t.like(scene.fieldsOf('origin-refused')[0], { method: 'POST', path: '/v1/x', reason: 'denied' });
  const hint = 'on the host: add allow=POST:/v1/x to -i api:origin:http://127.0.0.1';
  t.true((await scene.say(request('POST /v1/x'))).includes(hint));
  for (const method of ['*', 'GET+PUT']) t.false((await scene.say(request(`${method} /v2`))).includes('add allow='));
});

test('with a service that is no longer offered, no request begins; the one in progress ends', async (t) => {
  const { origin, scene } = await recording(t, 'allow=*:/*');
  const idle = scene.open();
  idle.write(request('GET /a'));
  await eventually(() => scene.fieldsOf('origin-request').length === 1);
  const answer = deferred();
  const port = await httpServer(t, (_, response) => {
    response.write('begun ');
    void answer.promise.then(() => response.end('done'));
  });
  const slow = new OriginScene(t, `http://127.0.0.1:${port},allow=*:/*`);
  const [busy, fresh] = [slow.open(), slow.open()];
  busy.write(request('GET /b'));
  await readUntil(busy, 'begun ');
  for (const { target } of [scene, slow]) target.pause?.();
  t.regex((await readAll(idle)).toString(), /ok$/, 'an answer that was not read yet');
  fresh.write(request('GET /c'));
  t.is((await readAll(fresh)).length, 0);
  busy.write(request('GET /d'));
  answer.resolve();
  t.regex((await readAll(busy)).toString(), /^[^]*done\r\n0\r\n\r\n$/);
  t.deepEqual(
    slow.fieldsOf('origin-request').map(({ path }) => path),
    ['/b'],
  );
  t.is(origin.bytes.match(/GET/g)?.length, 1);
});

test('a secret is read again; without it no request is sent, and nothing shows it', async (t) => {
  const file = keyFile(t, 'one');
  const { origin, scene } = await recording(t, `allow=*:/*,header=authorization:Bearer @${file}`);
  await scene.say(request('GET /a'));
  writeFileSync(file, 'two\r\n');
  scene.pair.clock.advance(1000);
  await scene.say(request('GET /b'));
  t.deepEqual(origin.bytes.match(/Bearer \w+/g), ['Bearer one', 'Bearer two']);
  for (const bad of ['', 'a\nb', ' padded', 'x'.repeat(9000)]) {
    writeFileSync(file, bad);
    scene.pair.clock.advance(1000);
    const answer = await scene.say(request('GET /c'));
    t.regex(answer, /^HTTP\/1\.1 500 No Credential\r\n/);
    t.false(answer.includes(file));
  }
  t.false(origin.bytes.includes('/c'));
  t.true(scene.fieldsOf('origin-refused').every(({ why }) => why.includes(file)));
  await t.throwsAsync(scene.target.prepare?.() ?? Promise.resolve(), { message: /key: longer than 8192 bytes/ });
});

test('requests of all connections share those to the server, which are closed after 4 s', async (t) => {
  const { origin, scene } = await recording(t, 'allow=*:/*');
  for (let count = 0; count < 3; count += 1) await scene.say(request('GET /', 'Connection: close\r\n'));
  t.is(origin.received.length, 1);
  scene.pair.clock.advance(4000);
  await scene.say(request('GET /'));
  t.is(origin.received.length, 2);
});

test('bodies of both directions pass while they are sent', async (t) => {
  const port = await httpServer(t, (asked, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    asked.on('data', (chunk: Buffer) => response.write(`data: ${chunk.toString()}\n\n`));
    asked.on('end', () => response.end());
  });
  const scene = new OriginScene(t, `http://127.0.0.1:${port},allow=POST:/`);
  const guest = scene.open();
  guest.write(request('POST /', 'Transfer-Encoding: chunked\r\n'));
  for (const word of ['one', 'two']) {
    guest.write(`3\r\n${word}\r\n`);
    t.true((await readUntil(guest, `data: ${word}`)).includes(word));
  }
  guest.end('0\r\n\r\n');
  t.regex((await readAll(guest)).toString(), /0\r\n\r\n$/);
  t.like(scene.fieldsOf('origin-request')[0], { uploadedBytes: 6, status: 200, code: null });
});

test('the server’s connection ends with a program that goes away, and the request is logged', async (t) => {
  const left = deferred();
  const port = await httpServer(t, (_, response) => {
    response.write('data: 1\n\n');
    response.once('close', () => left.resolve());
  });
  const scene = new OriginScene(t, `http://127.0.0.1:${port},allow=*:/*`);
  const guest = scene.open();
  guest.write(request('GET /'));
  await readUntil(guest, 'data: 1');
  guest.destroy();
  await left.promise;
  const [fact] = await eventually(() => {
    const facts = scene.fieldsOf('origin-request');
    return facts.length > 0 && facts;
  });
  t.like(fact, { status: 200, code: 'cancelled' });
});

test('the server is not blamed for a program that goes away before the answer', async (t) => {
  const [asked, left] = [deferred(), deferred()];
  const port = await httpServer(t, (_, response) => {
    response.once('close', () => left.resolve());
    asked.resolve();
  });
  const scene = new OriginScene(t, `http://127.0.0.1:${port},allow=*:/*`);
  const guest = scene.open();
  guest.write(request('GET /'));
  await asked.promise;
  guest.destroy();
  await left.promise;
  await eventually(() => scene.target.openCount === 0);
  t.like(scene.fieldsOf('origin-request')[0], { status: null, code: 'cancelled' });
  t.deepEqual(scene.fieldsOf('origin-refused'), []);
});

test('an answer that breaks off is a reset, and is logged', async (t) => {
  const at = await localServer(t, (socket) => {
    socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf'));
  });
  const scene = new OriginScene(t, `http://127.0.0.1:${at.port},allow=*:/*`);
  await t.throwsAsync(scene.say(request('GET /')), { message: /cut off/ });
  t.like(scene.fieldsOf('origin-request')[0], { status: 200, code: 'local-error', downloadedBytes: 4 });
});

test('the status of an answer that is not passed on is not logged', async (t) => {
  const both = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n';
  const at = await localServer(t, (socket) => socket.once('data', () => socket.end(both)));
  const scene = new OriginScene(t, `http://127.0.0.1:${at.port},allow=*:/*`);
  t.regex(await scene.say(request('GET /')), /^HTTP\/1\.1 502 Bad Answer\r\n/);
  t.like(scene.fieldsOf('origin-request')[0], { status: null, code: 'local-error' });
});

test('a refusal for a server that does not answer names the request', async (t) => {
  const at = await localServer(t, (socket) => socket.once('data', () => socket.end()));
  const scene = new OriginScene(t, `http://127.0.0.1:${at.port},allow=*:/*`);
  t.regex(await scene.say(`${request('GET /a')}\r\n\r\n`), /^HTTP\/1\.1 502 Bad Answer\r\n[^]* 400 /);
  const facts = scene.fieldsOf('origin-refused');
  t.like(facts[0], { method: 'GET', path: '/a', reason: 'bad-answer' });
  t.like(facts[1], { method: null, path: null, reason: 'bad-request' });
});

test('a server that cannot be reached is a 502 with the reason', async (t) => {
  const refused = new OriginScene(t, `http://127.0.0.1:${await freePort()},allow=*:/*`);
  t.regex(await refused.say(request('GET /')), /^HTTP\/1\.1 502 Connection Refused\r\n[^]*error=connection_refused/);
  const plain = await httpServer(t, (_, response) => response.end('plain'));
  const deaf = new OriginScene(t, `https://127.0.0.1:${plain},allow=*:/*`);
  t.regex(await deaf.say(request('GET /')), /^HTTP\/1\.1 502 /);
});

/** A server with a certificate for `localhost`. */
async function tlsServer(t: ExecutionContext, handle: http.RequestListener) {
  const folder = temporaryFolder(t);
  makeCertificate(folder, 'web', ['localhost']);
  const read = (name: string) => readFileSync(join(folder, name));
  const server = https.createServer({ key: read('web.key'), cert: read('web.pem') }, handle);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as net.AddressInfo).port, ca: join(folder, 'web-ca.pem') };
}

test('over TLS, nothing is sent to a server whose certificate is not valid', async (t) => {
  const asked: string[] = [];
  const { ca, port } = await tlsServer(t, ({ headers, url = '' }, response) => {
    asked.push(url);
    response.end(`to ${headers.host}`);
  });
  const options = 'allow=*:/*';
  const trusting = new OriginScene(t, `https://localhost:${port},${options},ca=${ca}`);
  const answer = await trusting.say(request('GET /good'));
  t.true(answer.endsWith(`\r\n\r\nto localhost:${port}`), answer);
  for (const text of [`https://localhost:${port},${options}`, `https://127.0.0.1:${port},${options},ca=${ca}`]) {
    const scene = new OriginScene(t, text);
    t.regex(await scene.say(request('GET /bad')), /^HTTP\/1\.1 502 Bad Certificate\r\n[^]*error=tls_certificate_error/);
    t.like(scene.fieldsOf('origin-refused')[0], { reason: 'bad-certificate' });
  }
  t.deepEqual(asked, ['/good']);
});

test('over TLS, an answer without its length never looks whole: its last part may be missing', async (t) => {
  const { ca, port } = await tlsServer(t, (_, response) => {
    response.socket?.end('HTTP/1.1 200 OK\r\n\r\nhalf');
  });
  const scene = new OriginScene(t, `https://localhost:${port},allow=*:/*,ca=${ca}`);
  await t.throwsAsync(scene.say(request('GET /')), { message: /of unknown length/ });
  t.like(scene.fieldsOf('origin-request')[0], { code: 'local-error', downloadedBytes: 4 });
});

test('without the certificates of ca=, no request is sent, and the program does not see their path', async (t) => {
  const { ca, port } = await tlsServer(t, (_, response) => response.end());
  const scene = new OriginScene(t, `https://localhost:${port},allow=*:/*,ca=${ca}`);
  for (const spoil of [() => writeFileSync(ca, ''), () => rmSync(ca)]) {
    spoil();
    const answer = await scene.say(request('GET /'));
    t.regex(answer, /^HTTP\/1\.1 500 No Credential\r\n/);
    t.false(answer.includes(ca));
    t.true(scene.fieldsOf('origin-refused').at(-1)?.why.includes(ca));
  }
});

test('a switch to an allowed protocol passes both directions on; another is not asked for', async (t) => {
  const server = http.createServer((asked, response) => response.end(`no ${asked.headers.upgrade ?? 'upgrade'}`));
  server.on('upgrade', (asked, socket: net.Socket) => {
    socket.write(`HTTP/1.1 101 Switching\r\nUpgrade: ${asked.headers.upgrade}\r\nConnection: Upgrade\r\n\r\nhello `);
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as net.AddressInfo;
  const scene = new OriginScene(t, `http://127.0.0.1:${port},allow=GET:/,upgrade=websocket`);
  const guest = scene.open();
  guest.write(`${request('GET /', 'Connection: Upgrade\r\nUpgrade: WebSocket\r\n')}early `);
  await readUntil(guest, 'early ');
  guest.end('late');
  t.is((await readAll(guest)).toString(), 'late');
  t.like(scene.fieldsOf('origin-request')[0], { status: 101, uploadedBytes: 10, downloadedBytes: 16, code: null });
  t.true((await scene.say(request('GET /', 'Connection: Upgrade\r\nUpgrade: h2c\r\n'))).endsWith('no upgrade'));
});

test('a GET that is repeated, since the server closes the kept connection, is logged once', async (t) => {
  const { port } = await localServer(t, (socket) => {
    let count = 0;
    socket.on('data', () => {
      count += 1;
      if (count === 1) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      else socket.destroy();
    });
  });
  const scene = new OriginScene(t, `http://127.0.0.1:${port},allow=*:/*`);
  for (const [method, status] of [
    ['GET', 200],
    ['GET', 200],
    ['POST', 502],
  ] as const) {
    const answer = await scene.say(request(`${method} /a`, method === 'POST' ? 'Content-Length: 0\r\n' : ''));
    t.true(answer.startsWith(`HTTP/1.1 ${status} `), answer);
  }
  const facts = scene.fieldsOf('origin-request').map(({ code, method, status }) => [method, status, code]);
  t.deepEqual(facts, [
    ['GET', 200, null],
    ['GET', 200, null],
    ['POST', null, 'local-error'],
  ]);
});

/** Huge, deep, slow and non-HTTP requests; too many, silent and broken connections: other clients and streams are unaffected. */
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { MAX_CONNECTIONS, REQUEST_TIMEOUT_MS, YOUNG_MS } from '../../lib/control/server/http-service.js';
import { NO_CHANGES, openConnection, startControl } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { answerTo, echo, localServer, localSocket, proxyPair, readToEnd, TestProxy } from '../helpers/proxies.js';
import { eventually, ManualClock, within } from '../helpers/time.js';

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
const upgrade = (service: string): string =>
  `GET /v1/connect?service=${service} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: vproxy-stream\r\n\r\n`;

const post = (path: string, headers: string): string =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${headers}\r\n\r\n`;

test('a huge body is refused, and read only up to a limit; so are one announced as huge, and nested brackets', async (t) => {
  const { path, ask, isUnharmed } = await besideStream(t);
  const announced = await openConnection(t, path);
  announced.write(post('/v1/forwards', 'Content-Length: 99999999999'));
  await eventually(() => announced.bytesRead > 0, { what: 'the answer' });
  announced.end();
  t.regex(await readUntilClosed(announced), /^HTTP\/1.1 413 .*\r\nConnection: close\r\n.*"code":"bad-argument"/s);

  const socket = await openConnection(t, path);
  const answer = readUntilClosed(socket);
  socket.write(post('/v1/forwards', 'Transfer-Encoding: chunked'));
  const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`;
  let writtenBytes = 0;
  while (!socket.destroyed && writtenBytes < 64 * 1024 * 1024) {
    writtenBytes += chunk.length;
    if (!socket.write(chunk)) await Promise.race([once(socket, 'drain'), once(socket, 'close')]).catch(() => undefined);
  }
  t.regex(await answer, /^HTTP\/1.1 413 /);
  t.true(writtenBytes < 16 * 1024 * 1024, String(writtenBytes));

  const deep = (depth: number) => `{"spec":${'['.repeat(depth)}${']'.repeat(depth)}}`;
  const wrong = [deep(100_000), deep(32_000), '['.repeat(65_000), `{"direction":"outgoing","spec":${deep(30_000)}}`];
  const statusOf = async (text: string) => (await ask('POST', '/v1/forwards', { text })).status;
  t.deepEqual(await Promise.all(wrong.map(statusOf)), [413, 400, 400, 400]);
  t.true(await isUnharmed());
});

test('100 Continue is sent only if the body will be read', async (t) => {
  const { path } = await besideStream(t);
  const small = await openConnection(t, path);
  const request = post('/v1/drain', 'Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close');
  t.is(await answerTo(small, request), 'HTTP/1.1 100 Continue\r\n\r\n');
  small.write('{}');
  t.regex(await readUntilClosed(small), /^HTTP\/1.1 202 /);
  for (const [url, length] of [
    ['/v1/drain', 2_000_000],
    ['/v1/exec', 3_000_000],
  ] as const) {
    const large = await openConnection(t, path);
    large.write(post(url, `Content-Length: ${length}\r\nExpect: 100-continue`));
    t.regex(await readUntilClosed(large), /^HTTP\/1.1 413 /);
  }
});

test('a client that is too slow with the header, the body, or anything is disconnected', async (t) => {
  const beginnings = ['GET /v1/status HTTP/1.1\r\nHost: ', `${post('/v1/ping', 'Content-Length: 20')}{"chan`, ''];
  const { path, clock, isUnharmed } = await besideStream(t);
  for (const text of beginnings) {
    const socket = await openConnection(t, path);
    socket.write(text);
    t.true(await isUnharmed());
    const closed = readUntilClosed(socket);
    clock.advance(REQUEST_TIMEOUT_MS - 1);
    t.true(await isUnharmed());
    t.false(socket.readableEnded);
    clock.advance(1);
    t.is(await closed, '');
    t.true(await isUnharmed());
  }
});

test('a connection can send many requests, but no pipelined ones', async (t) => {
  const { path, isUnharmed } = await besideStream(t);
  const socket = await openConnection(t, path);
  for (let count = 0; count < 50; count += 1) t.regex(await answerTo(socket, get('/v1/forwards')), /^HTTP\/1.1 200 /);
  const impatient = await openConnection(t, path);
  const closed = readUntilClosed(impatient);
  impatient.write(get('/v1/wait?service=nothing').repeat(5000));
  t.is(await closed, '');
  t.true(await isUnharmed());
});

test('input that is not HTTP is answered, and the connection closed', async (t) => {
  const { path, isUnharmed } = await besideStream(t);
  for (const [text, wanted] of [
    ['hello\r\n\r\n', /^HTTP\/1.1 400 .*"code":"bad-argument"/s],
    ['\x16\x03\x01\x02\x00\x01\x00', /^HTTP\/1.1 400 /],
    ['GET /v1/status HTTP/1.1\r\n\r\n', /^HTTP\/1.1 400 /],
    [`GET /v1/status HTTP/1.1\r\nHost: ${'x'.repeat(20_000)}\r\n\r\n`, /^HTTP\/1.1 431 .*too long/s],
    [get(`/${'x'.repeat(20_000)}`), /^HTTP\/1.1 431 /],
    ['GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n\x00\x01garbage', /^HTTP\/1.1 (200|400) /],
    [post('/v1/ping', 'Content-Length: 2\r\nTransfer-Encoding: chunked'), /^HTTP\/1.1 400 /],
    [post('/v1/ping', 'Content-Length: -2'), /^HTTP\/1.1 400 /],
  ] as const) {
    const socket = await openConnection(t, path);
    socket.write(text);
    t.regex(await readUntilClosed(socket), wanted, JSON.stringify(text.slice(0, 80)));
  }
  t.true(await isUnharmed());
});

// Connections.

test('a handler may take longer than the request timeout, and many waiting clients cause no warning', async (t) => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => void warnings.push(warning);
  process.on('warning', onWarning);
  t.teardown(() => process.off('warning', onWarning));
  const { ask, clock } = await besideStream(t);
  const wait = () => ask('GET', '/v1/wait?service=nothing&timeout=0.5');
  const waiting = Array.from({ length: 40 }, wait);
  await setImmediate();
  clock.advance(REQUEST_TIMEOUT_MS);
  for (const { status } of await Promise.all(waiting)) t.is(status, 503);
  t.deepEqual(warnings, []);
});

test('1,000 connections that send their requests in one turn are all answered', async (t) => {
  const { path, isUnharmed } = await besideStream(t);
  const sockets: net.Socket[] = [];
  while (sockets.length < 1000) {
    sockets.push(...(await Promise.all(Array.from({ length: 100 }, () => openConnection(t, path)))));
    // Some versions of Node accept one in a turn, and the listener's backlog is short.
    for (let turn = 0; turn < 100; turn += 1) await setImmediate();
  }
  const answers = sockets.map((socket) => {
    socket.write(get('/v1/forwards').replace('\r\n', '\r\nConnection: close\r\n'));
    return readUntilClosed(socket);
  });
  const statuses = new Set((await Promise.all(answers)).map((text) => text.slice(0, 12)));
  t.deepEqual([...statuses], ['HTTP/1.1 200']);
  t.true(await isUnharmed());
});

test('requests whose bodies come in one turn are handled in several', async (t) => {
  const { path, process, isUnharmed } = await besideStream(t);
  let handled = 0;
  process.reload = () => {
    handled += 1;
    return Promise.resolve(NO_CHANGES);
  };
  const sockets: net.Socket[] = [];
  while (sockets.length < 200) {
    const socket = await openConnection(t, path);
    socket.write(post('/v1/reload', 'Content-Length: 2'));
    sockets.push(socket.resume());
  }
  t.true(await isUnharmed());
  for (const socket of sockets) socket.write('{}');
  let most = 0;
  for (let before = 0; handled < sockets.length; before = handled) {
    await setImmediate();
    most = Math.max(most, handled - before);
  }
  t.true(most <= sockets.length / 2, `${most} in one turn`);
});

test('hundreds of idle connections leave room for requests', async (t) => {
  const { path, isUnharmed, clock } = await besideStream(t);
  const sockets: net.Socket[] = [];
  while (sockets.length < 300) {
    // No more at once than the listener's backlog.
    const batch = await Promise.all(Array.from({ length: 100 }, () => openConnection(t, path)));
    for (const socket of batch) socket.resume().once('end', () => socket.destroy());
    sockets.push(...batch);
    clock.advance(YOUNG_MS);
    t.true(await isUnharmed());
  }
  await eventually(() => sockets.filter(({ destroyed }) => !destroyed).length <= MAX_CONNECTIONS, {
    what: 'the end of those that are too many',
  });
});

test('connections with a request in progress are not closed for new ones, which wait for room', async (t) => {
  const { path, ask, clock } = await besideStream(t);
  const followers: net.Socket[] = [];
  for (let count = 0; count < MAX_CONNECTIONS; count += 1) {
    const socket = await openConnection(t, path);
    await answerTo(socket, get('/v1/events'));
    followers.push(socket);
  }
  const before = clock.pending;
  const refused = ask('GET', '/v1/status');
  await eventually(() => clock.pending > before, { what: 'its waiting' });
  clock.advance(REQUEST_TIMEOUT_MS);
  await t.throwsAsync(refused);
  t.true(followers.every(({ destroyed, readableEnded }) => !destroyed && !readableEnded));
  followers[0]?.destroy();
  t.is((await eventually(() => ask('GET', '/v1/status'), { what: 'room for one' })).status, 200);
});

test('a connection may be lost at any moment', async (t) => {
  const { path, isUnharmed } = await besideStream(t);
  for (const text of [
    ...['', 'GET /v1/sta', get('/v1/status'), get('/v1/streams'), get('/v1/events'), get('/v1/wait?service=nothing')],
    ...[upgrade('echo'), `${upgrade('x')}hello`],
    ...[`${post('/v1/ping', 'Content-Length: 20')}{"chan`, `${post('/v1/ping', 'Content-Length: 2')}{}`],
    post('/v1/ping', 'Content-Length: 99999999'),
  ]) {
    for (const isAtOnce of [true, false]) {
      const socket = await openConnection(t, path);
      socket.write(text);
      if (!isAtOnce) t.true(await isUnharmed());
      socket.destroy();
    }
    t.true(await isUnharmed(), JSON.stringify(text));
  }
});

test('the wait of a client that has disconnected ends', async (t) => {
  const clock = new ManualClock();
  const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`, { clock });
  const { path, ask } = await startControl(t, proxy);
  await ask('GET', '/v1/status');
  const before = clock.pending;
  const socket = await openConnection(t, path);
  socket.write(get('/v1/wait'));
  await eventually(() => clock.pending > before, { what: 'the waiting' });
  socket.destroy();
  await eventually(() => clock.pending === before, { what: 'the end of the waiting' });
  t.is(clock.pending, before);
});

test('idle upgraded connections do not block requests', async (t) => {
  const { path, isUnharmed, clock } = await besideStream(t);
  const sockets: net.Socket[] = [];
  for (let count = 0; count < MAX_CONNECTIONS + 20; count += 1) {
    const socket = await openConnection(t, path);
    socket.write(upgrade('echo'));
    sockets.push(socket);
  }
  await eventually(() => sockets.every(({ bytesRead }) => bytesRead > 0), { what: 'all streams' });
  clock.advance(10 * REQUEST_TIMEOUT_MS);
  t.true(await isUnharmed());
  const [socket] = sockets as [net.Socket];
  socket.end('still there');
  t.regex((await readToEnd(socket)).toString(), /\r\n\r\nstill there$/);
});

test('an address is used by one server only, and released on close', async (t) => {
  const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`);
  const { path, server } = await startControl(t, proxy);
  await t.throwsAsync(server.listen({ path }), { code: 'address-in-use' });
  await server.close();
  await t.throwsAsync(once(net.connect({ path }), 'connect'), { code: 'ENOENT' });
});

/** A control server, and an open stream; `isUnharmed` if the stream still echoes and a request is answered. */
async function besideStream(t: ExecutionContext) {
  const { port } = await localServer(t, echo);
  const { a } = await proxyPair(t, { targets: `echo:${port}` });
  const neighbour = localSocket(t, a.port('echo'));
  const clock = new ManualClock();
  const control = await startControl(t, a.proxy, { clock });
  // Load the routes first, so that the rest is about requests only.
  await control.ask('GET', '/v1/forwards');
  const isUnharmed = async () => {
    const answers = Promise.all([answerTo(neighbour, 'x'), control.ask('GET', '/v1/status')]);
    const [echoed, { status }] = await within(30_000, 'echo and status', answers);
    return echoed === 'x' && status === 200;
  };
  t.true(await isUnharmed());
  return { ...control, clock, isUnharmed };
}

/** Reads until the connection is closed, in order or not. */
async function readUntilClosed(socket: net.Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
  socket.once('end', () => socket.destroy());
  const closed = new Promise((resolve) => socket.once('close', resolve));
  if (!socket.destroyed) await within(20_000, 'the close of a connection', closed);
  return text;
}

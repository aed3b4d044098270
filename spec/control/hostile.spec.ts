/** Requests that are huge, deep, slow or not HTTP, and connections that are too many, silent or cut: others, and the streams, are not affected. */
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { MAX_CONNECTIONS, REQUEST_TIMEOUT_MS } from '../../lib/control/server/http-service.js';
import { besideStream, openConnection, post, readUntilClosed, startControl } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { readToEnd, TestProxy } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

test('a body that is said to be huge is refused before it comes', async (t) => {
  const { path, isUnharmed } = await besideStream(t);
  const socket = await openConnection(t, path);
  socket.write(post('/v1/forwards', 'Content-Length: 99999999999'));
  await eventually(() => socket.bytesRead > 0, { what: 'the answer' });
  socket.end();
  t.regex(await readUntilClosed(socket), /^HTTP\/1.1 413 .*\r\nConnection: close\r\n.*"code":"bad-argument"/s);
  t.true(await isUnharmed());
});

test('a body that becomes huge is refused, and read no further than a bound', async (t) => {
  const { path, isUnharmed } = await besideStream(t);
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
  t.true(await isUnharmed());
});

test('brackets without end are no JSON, or too long', async (t) => {
  const { ask, isUnharmed } = await besideStream(t);
  const deep = (depth: number) => `{"spec":${'['.repeat(depth)}${']'.repeat(depth)}}`;
  t.is((await ask('POST', '/v1/forwards', { text: deep(100_000) })).status, 413);
  t.is((await ask('POST', '/v1/forwards', { text: deep(32_000) })).status, 400);
  t.is((await ask('POST', '/v1/forwards', { text: '['.repeat(65_000) })).status, 400);
  t.is((await ask('POST', '/v1/forwards', { text: `{"direction":"outgoing","spec":${deep(30_000)}}` })).status, 400);
  t.true(await isUnharmed());
});

test('a request is asked to go on only where its body will be read', async (t) => {
  const { path } = await besideStream(t);
  const small = await openConnection(t, path);
  small.write(post('/v1/drain', 'Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close'));
  const [first] = (await once(small, 'data')) as [Buffer];
  t.is(first.toString(), 'HTTP/1.1 100 Continue\r\n\r\n');
  small.write('{}');
  t.regex(await readUntilClosed(small), /^HTTP\/1.1 202 /);
  const large = await openConnection(t, path);
  large.write(post('/v1/drain', 'Content-Length: 2000000\r\nExpect: 100-continue'));
  t.regex(await readUntilClosed(large), /^HTTP\/1.1 413 /);
});

for (const [name, text] of [
  ['the header', 'GET /v1/status HTTP/1.1\r\nHost: '],
  ['the body', `${post('/v1/ping', 'Content-Length: 20')}{"chan`],
  ['anything', ''],
] as const) {
  test(`who takes too long for ${name} is cut off`, async (t) => {
    const { path, clock, isUnharmed } = await besideStream(t);
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
  });
}

test('who sends requests without waiting for answers is cut off', async (t) => {
  const { path, isUnharmed } = await besideStream(t);
  const socket = await openConnection(t, path);
  const closed = readUntilClosed(socket);
  socket.write('GET /v1/wait?service=nothing HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(5000));
  t.is(await closed, '');
  t.true(await isUnharmed());
});

test('one connection can ask again and again', async (t) => {
  const { path } = await besideStream(t);
  const socket = await openConnection(t, path);
  for (let count = 0; count < 50; count += 1) {
    const answer = once(socket, 'data') as Promise<[Buffer]>;
    socket.write('GET /v1/forwards HTTP/1.1\r\nHost: x\r\n\r\n');
    t.regex((await answer)[0].toString(), /^HTTP\/1.1 200 /);
  }
});

test('what is no HTTP is answered and cut off', async (t) => {
  const { path, isUnharmed } = await besideStream(t);
  for (const [text, wanted] of [
    ['hello\r\n\r\n', /^HTTP\/1.1 400 .*"code":"bad-argument"/s],
    ['\x16\x03\x01\x02\x00\x01\x00', /^HTTP\/1.1 400 /],
    ['GET /v1/status HTTP/1.1\r\n\r\n', /^HTTP\/1.1 400 /],
    [`GET /v1/status HTTP/1.1\r\nHost: ${'x'.repeat(20_000)}\r\n\r\n`, /^HTTP\/1.1 431 .*too long/s],
    [`GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, /^HTTP\/1.1 431 /],
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

test('a handler may take longer than a request', async (t) => {
  const { ask, clock } = await besideStream(t);
  const waiting = ask('GET', '/v1/wait?service=nothing&timeout=0.5');
  await new Promise((resolve) => setImmediate(resolve));
  clock.advance(REQUEST_TIMEOUT_MS);
  t.is((await waiting).status, 503);
});

test('hundreds of connections leave room for those who ask', async (t) => {
  const { path, isUnharmed } = await besideStream(t);
  const sockets: net.Socket[] = [];
  while (sockets.length < 300) {
    // No more at once than the backlog of a listener holds.
    const batch = await Promise.all(Array.from({ length: 100 }, () => openConnection(t, path)));
    for (const socket of batch) socket.resume().once('end', () => socket.destroy());
    sockets.push(...batch);
    t.true(await isUnharmed());
  }
  await eventually(() => sockets.filter(({ destroyed }) => !destroyed).length <= MAX_CONNECTIONS, {
    what: 'the end of those that are too many',
  });
});

test('connections under way are not given up for new ones, which are refused then', async (t) => {
  const { path, ask } = await besideStream(t);
  const followers: net.Socket[] = [];
  for (let count = 0; count < MAX_CONNECTIONS; count += 1) {
    const socket = await openConnection(t, path);
    socket.write('GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket, 'data');
    followers.push(socket);
  }
  await t.throwsAsync(ask('GET', '/v1/status'));
  t.true(followers.every(({ destroyed, readableEnded }) => !destroyed && !readableEnded));
  followers[0]?.destroy();
  t.is((await eventually(() => ask('GET', '/v1/status'), { what: 'room for one' })).status, 200);
});

test('many who wait are no reason to warn', async (t) => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => void warnings.push(warning);
  process.on('warning', onWarning);
  t.teardown(() => process.off('warning', onWarning));
  const { ask } = await besideStream(t);
  const answers = await Promise.all(
    Array.from({ length: 40 }, () => ask('GET', '/v1/wait?service=nothing&timeout=0.1')),
  );
  t.deepEqual([...new Set(answers.map(({ status }) => status))], [503]);
  t.deepEqual(warnings, []);
});

test('a connection that dies at any moment is nobody’s failure', async (t) => {
  const { path, isUnharmed } = await besideStream(t);
  const beginnings = [
    '',
    'GET /v1/sta',
    'GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET /v1/streams HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET /v1/wait?service=nothing HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET /v1/connect?service=echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: vproxy-stream\r\n\r\n',
    'GET /v1/connect?service=x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: vproxy-stream\r\n\r\nhello',
    `${post('/v1/ping', 'Content-Length: 20')}{"chan`,
    `${post('/v1/ping', 'Content-Length: 2')}{}`,
    post('/v1/ping', 'Content-Length: 99999999'),
  ];
  for (const text of beginnings) {
    for (const isAtOnce of [true, false]) {
      const socket = await openConnection(t, path);
      socket.write(text);
      if (!isAtOnce) t.true(await isUnharmed());
      socket.destroy();
    }
    t.true(await isUnharmed(), JSON.stringify(text));
  }
});

test('who asked to be told, and has gone, is not waited for', async (t) => {
  const clock = new ManualClock();
  const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`, { clock });
  const { path, ask } = await startControl(t, proxy);
  await ask('GET', '/v1/status');
  const before = clock.pending;
  const socket = await openConnection(t, path);
  socket.write('GET /v1/wait HTTP/1.1\r\nHost: x\r\n\r\n');
  await eventually(() => clock.pending > before, { what: 'the waiting' });
  socket.destroy();
  await eventually(() => clock.pending === before, { what: 'the end of the waiting' });
  t.is(clock.pending, before);
});

test('connections that became streams and say nothing keep nobody from asking', async (t) => {
  const { path, isUnharmed, clock } = await besideStream(t);
  const sockets: net.Socket[] = [];
  for (let count = 0; count < MAX_CONNECTIONS + 20; count += 1) {
    const socket = await openConnection(t, path);
    socket.write(
      'GET /v1/connect?service=echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: vproxy-stream\r\n\r\n',
    );
    sockets.push(socket);
  }
  await eventually(() => sockets.every(({ bytesRead }) => bytesRead > 0), { what: 'all streams' });
  clock.advance(10 * REQUEST_TIMEOUT_MS);
  t.true(await isUnharmed());
  const [socket] = sockets as [net.Socket];
  socket.end('still there');
  t.regex((await readToEnd(socket)).toString(), /\r\n\r\nstill there$/);
});

test('an address is taken only by one, and given up at the end', async (t) => {
  const { proxy } = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'c')}`);
  const { path, server } = await startControl(t, proxy);
  await t.throwsAsync(server.listen({ path }), { code: 'address-in-use' });
  await server.close();
  await t.throwsAsync(once(net.connect({ path }), 'connect'), { code: 'ENOENT' });
});

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import { hiddenReset } from '../../lib/system/sockets/node-sockets.js';
import { temporaryFolder } from '../helpers/files.js';
import {
  connectedProxies,
  echo,
  failureOf,
  localServer,
  localSocket,
  readToEnd,
  TestProxy,
} from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const LOOPBACK = '127.0.0.1';

test('bytes pass both ways unchanged, over TCP and over unix sockets, at either level of integrity', async (t) => {
  for (const integrity of INTEGRITY_LEVELS) {
    const folder = temporaryFolder(t);
    const path = join(folder, 'channel.sock');
    const tcp = await localServer(t, echo);
    await localServer(t, echo, { path: join(folder, 'target.sock') });
    const a = new TestProxy(t, `unix-listen:${path},integrity=${integrity}`, {
      outgoing: ['tcp:0', `unix:${join(folder, 'local.sock')}:-`],
    });
    const b = new TestProxy(t, `unix-connect:${path},integrity=${integrity}`, {
      incoming: [`tcp:${tcp.port}`, `unix:unix:${join(folder, 'target.sock')}`],
    });
    await a.start();
    await b.start();
    const data = randomBytes(5_000_003);
    for (const address of [{ host: LOOPBACK, port: a.port('tcp') }, { path: join(folder, 'local.sock') }]) {
      const socket = localSocket(t, address);
      socket.end(data);
      t.true((await readToEnd(socket)).equals(data));
    }
  }
});

test('a program that ends its writing side still gets its answer, and one that answers first still gets the rest', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const hashing = await localServer(t, (socket) => {
    const hash = createHash('sha256');
    socket.on('data', (chunk) => hash.update(chunk));
    socket.on('end', () => socket.end(hash.digest('hex')));
  });
  const received: Promise<Buffer>[] = [];
  const answering = await localServer(t, (socket) => {
    socket.end('answered before the question');
    received.push(readToEnd(socket));
  });
  const { a } = await connectedProxies(
    t,
    path,
    { outgoing: ['hash:0', 'early:0'] },
    { incoming: [`hash:${hashing.port}`, `early:${answering.port}`] },
  );
  const data = randomBytes(300_000);
  const socket = localSocket(t, { host: LOOPBACK, port: a.port('hash') });
  socket.end(data);
  t.is((await readToEnd(socket)).toString(), createHash('sha256').update(data).digest('hex'));

  const early = localSocket(t, { host: LOOPBACK, port: a.port('early') });
  t.is((await readToEnd(early)).toString(), 'answered before the question');
  early.end(data);
  const [question] = await Promise.all(received);
  t.true(question?.equals(data));
});

test('a refused target resets the connection, on TCP and on a unix socket', async (t) => {
  const folder = temporaryFolder(t);
  const closed = await localServer(t, echo);
  const { port } = closed;
  closed.close();
  const local = join(folder, 'local.sock');
  const { a } = await connectedProxies(
    t,
    join(folder, 'channel.sock'),
    { outgoing: ['gone:0', `missing:${local}`] },
    // Another test may listen on a port that has become free, but not at this address.
    { incoming: [`gone:127.9.8.7:${port}`, `missing:${join(folder, 'nothing.sock')}`] },
  );
  const tcp = localSocket(t, { host: LOOPBACK, port: a.port('gone') });
  tcp.write('hello');
  t.is((await failureOf(tcp)).code, 'ECONNRESET');
  const refused = await a.event('stream-refused');
  t.regex(refused.message, /connect-refused/);

  const unix = localSocket(t, { path: local });
  unix.write('hello');
  t.is((await failureOf(unix)).code, 'ECONNRESET');
});

test('a service that the peer does not offer is refused at once, and works as soon as it is offered', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const server = await localServer(t, echo);
  const { a, b } = await connectedProxies(t, path, { outgoing: ['late:0'] }, {});
  const port = a.port('late');
  const first = localSocket(t, { host: LOOPBACK, port });
  t.is((await failureOf(first)).code, 'ECONNRESET');
  t.regex(
    (await a.event('stream-refused')).message,
    /service late is not offered; the peer offers: nothing \(unknown-service\)/,
  );

  await b.proxy.stop();
  const later = new TestProxy(t, `unix-connect:${path}`, { incoming: [`late:${server.port}`] });
  const since = a.events.length;
  await later.start();
  await a.event('session-established', since);
  const second = localSocket(t, { host: LOOPBACK, port });
  second.end('hello');
  t.is((await readToEnd(second)).toString(), 'hello');
});

test('a reset at one end is a reset at the other, either way round', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const accepted: net.Socket[] = [];
  const server = await localServer(t, (socket) => {
    accepted.push(socket);
    socket.write('ready');
  });
  const { a } = await connectedProxies(t, path, { outgoing: ['x:0'] }, { incoming: [`x:${server.port}`] });

  const local = localSocket(t, { host: LOOPBACK, port: a.port('x') });
  await once(local, 'data');
  const failure = failureOf(accepted[0] as net.Socket);
  local.resetAndDestroy();
  t.is((await failure).code, 'ECONNRESET');

  const other = localSocket(t, { host: LOOPBACK, port: a.port('x') });
  await once(other, 'data');
  const otherFailure = failureOf(other);
  (accepted[1] as net.Socket).resetAndDestroy();
  t.is((await otherFailure).code, 'ECONNRESET');
});

test('a stream that is given up while its target is dialled is a reset to the target, and no request of 0 bytes', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const seen: string[] = [];
  let open = 0;
  const server = await localServer(t, (socket) => {
    open += 1;
    socket.on('end', () => {
      seen.push(hiddenReset(socket) === null ? 'end' : 'reset');
      socket.destroy();
    });
    socket.on('error', () => seen.push('reset'));
    socket.on('close', () => (open -= 1)).resume();
  });
  const { b } = await connectedProxies(t, path, { incoming: [`x:${server.port}`] }, {});
  for (let count = 0; count < 100; count += 1) {
    // One that is given up may not be answered yet.
    const stream = await b.proxy.openStream('x');
    stream.on('error', () => undefined).write('a request');
    for (let turn = 0; turn < count % 4; turn += 1) await setImmediate();
    stream.destroy();
  }
  await eventually(() => seen.length > 25 && open === 0);
  t.deepEqual(new Set(seen), new Set(['reset']));
});

test('a connection waits for a session, and is reset with a reason when none comes', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const server = await localServer(t, echo);
  const a = new TestProxy(t, `unix-connect:${path}`, { outgoing: ['echo:0'], waitMs: 50 });
  await a.start();
  const early = localSocket(t, { host: LOOPBACK, port: a.port('echo') });
  t.is((await failureOf(early)).code, 'ECONNRESET');
  t.regex((await a.event('stream-refused')).message, /no session with the peer within 0.05 s \(no-session\)/);

  const patient = new TestProxy(t, `unix-connect:${path}`, { outgoing: ['echo:0'] });
  await patient.start();
  const waiting = localSocket(t, { host: LOOPBACK, port: patient.port('echo') });
  waiting.end('still here');
  await once(waiting, 'connect');
  await a.proxy.stop();
  const b = new TestProxy(t, `unix-listen:${path}`, { incoming: [`echo:${server.port}`] });
  await b.start();
  t.is((await readToEnd(waiting)).toString(), 'still here');
});

test('a target that never reads holds up nobody else, and costs no more than its window', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const deaf = await localServer(t, (socket) => socket.pause());
  const lively = await localServer(t, echo);
  const { a } = await connectedProxies(
    t,
    path,
    { outgoing: ['deaf:0', 'echo:0'] },
    { incoming: [`deaf:${deaf.port}`, `echo:${lively.port}`] },
  );
  const flooding = Array.from({ length: 20 }, () => localSocket(t, { host: LOOPBACK, port: a.port('deaf') }));
  const block = randomBytes(1_000_000);
  const blocked = flooding.map(async (socket) => {
    socket.on('error', () => undefined);
    for (let count = 0; count < 12; count += 1) socket.write(block);
    await once(socket, 'connect');
  });
  await Promise.all(blocked);
  const data = randomBytes(2_000_000);
  const socket = localSocket(t, { host: LOOPBACK, port: a.port('echo') });
  socket.end(data);
  t.true((await readToEnd(socket)).equals(data));
});

test('two hundred connections at once each get their own answer', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const server = await localServer(t, echo);
  const { a } = await connectedProxies(t, path, { outgoing: ['echo:0'] }, { incoming: [`echo:${server.port}`] });
  const answers = await Promise.all(
    Array.from({ length: 200 }, async (_, index) => {
      const socket = localSocket(t, { host: LOOPBACK, port: a.port('echo') });
      const data = Buffer.alloc(10_000 + index, index);
      socket.end(data);
      return (await readToEnd(socket)).equals(data);
    }),
  );
  t.true(answers.every(Boolean));
});

test('when the peer goes, streams are reset and the listener stays: the next connection works as soon as the peer is back', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const server = await localServer(t, echo);
  const { a, b } = await connectedProxies(t, path, { outgoing: ['echo:0'] }, { incoming: [`echo:${server.port}`] });
  const port = a.port('echo');
  const open = localSocket(t, { host: LOOPBACK, port });
  open.write('x');
  await once(open, 'data');
  const failure = failureOf(open);
  await b.proxy.stop();
  t.is((await failure).code, 'ECONNRESET');

  const waiting = localSocket(t, { host: LOOPBACK, port });
  waiting.end('again');
  const returned = new TestProxy(t, `unix-connect:${path}`, { incoming: [`echo:${server.port}`] });
  await returned.start();
  t.is((await readToEnd(waiting)).toString(), 'again');
});

test('an address that is taken is an error with its own code, and nothing is left listening', async (t) => {
  const taken = await localServer(t, echo);
  const proxy = new TestProxy(t, `unix-connect:${join(temporaryFolder(t), 'x.sock')}`, {
    outgoing: ['free:0', `busy:${taken.port}`],
  });
  await t.throwsAsync(proxy.start(), { code: 'address-in-use', message: new RegExp(`:${taken.port}`) });
  const socket = localSocket(t, { host: LOOPBACK, port: proxy.port('free') });
  t.is((await failureOf(socket)).code, 'ECONNREFUSED');
});

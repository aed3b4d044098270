import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import { hiddenReset } from '../../lib/system/sockets/node-sockets.js';
import { sha256, temporaryFolder } from '../helpers/files.js';
import {
  ask,
  echo,
  failureOf,
  localServer,
  localSocket,
  proxyPair,
  readToEnd,
  refusal,
  startProxy,
} from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

test('bytes pass unchanged in both directions, over TCP and unix sockets, at either integrity level', async (t) => {
  for (const integrity of INTEGRITY_LEVELS) {
    const folder = temporaryFolder(t);
    const [target, local] = [join(folder, 'target.sock'), join(folder, 'local.sock')];
    const tcp = await localServer(t, echo);
    await localServer(t, echo, { path: target });
    const { a } = await proxyPair(t, {
      options: `,integrity=${integrity}`,
      a: { outgoing: ['tcp:0', `unix:${local}:-`] },
      b: { incoming: [`tcp:${tcp.port}`, `unix:unix:${target}`] },
    });
    const data = randomBytes(5_000_003);
    for (const place of [a.port('tcp'), local]) {
      const socket = localSocket(t, place);
      socket.end(data);
      t.true((await readToEnd(socket)).equals(data));
    }
  }
});

test('a program that half-closes still gets its answer, and one that answers first still gets the rest', async (t) => {
  const hashing = await localServer(t, (socket) => {
    void readToEnd(socket).then((bytes) => socket.end(sha256(bytes)));
  });
  const questions: Promise<Buffer>[] = [];
  const answering = await localServer(t, (socket) => {
    socket.end('answered before the question');
    questions.push(readToEnd(socket));
  });
  const { connect } = await proxyPair(t, { targets: [`hash:${hashing.port}`, `early:${answering.port}`] });
  const data = randomBytes(300_000);
  const socket = connect();
  socket.end(data);
  t.is((await readToEnd(socket)).toString(), sha256(data));

  const early = connect('early');
  t.is((await readToEnd(early)).toString(), 'answered before the question');
  early.end(data);
  t.true((await questions[0])?.equals(data));
});

test('a refused target resets the connection, on TCP and on a unix socket', async (t) => {
  const folder = temporaryFolder(t);
  const closed = await localServer(t, echo);
  const { port } = closed;
  closed.close();
  const local = join(folder, 'local.sock');
  // Another test may listen on a port that has become free, but not on this address.
  const targets = [`gone:127.9.8.7:${port}`, `missing:${join(folder, 'nothing.sock')}`];
  const { a } = await proxyPair(t, { targets: targets, a: { outgoing: ['gone:0', `missing:${local}`] } });
  for (const place of [a.port('gone'), local]) {
    const since = a.events.length;
    const socket = localSocket(t, place);
    socket.write('hello');
    t.is((await failureOf(socket)).code, 'ECONNRESET');
    const { message } = await a.event('stream-refused', since);
    // The address of the target once, with the name of the service.
    t.regex(message, /: \S+ \((?:gone|missing)\): [a-z ]+ \((?:ECONNREFUSED|ENOENT)\) \(connect-refused\)$/);
  }
});

/** A proxy that connects to the channel and serves `echo`, or nothing. */
const serving = (t: ExecutionContext, path: string, target: number | null) =>
  startProxy(t, `unix-connect:${path}`, { incoming: target === null ? [] : [`echo:${target}`] });

test('a listener survives peers that come, go or offer nothing; a connection waits for a session, or is reset with a reason', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const { port: target } = await localServer(t, echo);
  const a = await startProxy(t, `unix-listen:${path}`, { outgoing: ['echo:0'] });
  const port = a.port('echo');
  const waiting = localSocket(t, port);
  waiting.end('still here');
  await once(waiting, 'connect');
  const first = await serving(t, path, target);
  t.is((await readToEnd(waiting)).toString(), 'still here');
  const open = localSocket(t, port);
  open.write('x');
  await once(open, 'data');
  const failure = failureOf(open);
  await first.proxy.stop();
  t.is((await failure).code, 'ECONNRESET');

  const since = a.events.length;
  const other = await serving(t, path, null);
  await a.event('session-established', since);
  t.is(await refusal(t, port), 'ECONNRESET');
  const nothing = /service echo is not offered; the peer offers: nothing \(unknown-service\)/;
  t.regex((await a.event('stream-refused')).message, nothing);
  await other.proxy.stop();
  const again = ask(t, port, 'again');
  await serving(t, path, target);
  t.is(await again, 'again');

  const impatient = await startProxy(t, `unix-connect:${path}-nobody`, { outgoing: ['echo:0'], waitMs: 50 });
  t.is(await refusal(t, impatient.port('echo')), 'ECONNRESET');
  const { message } = await impatient.event('stream-refused');
  t.regex(message, /no session with the peer within 0.05 s \(no-session\)/);
});

test('of one outage the log names the first connection that was reset, and their number when it is over', async (t) => {
  const { port: target } = await localServer(t, (socket) => socket.pipe(socket));
  const path = join(temporaryFolder(t), 'channel.sock');
  const a = await startProxy(t, `unix-listen:${path}`, { outgoing: ['echo:0'], waitMs: 50 });
  const port = a.port('echo');
  for (let count = 0; count < 4; count += 1) t.is(await refusal(t, port), 'ECONNRESET');
  await eventually(() => a.count('stream-refused') === 4);
  const levels = a.all('stream-refused').map(({ level }) => level);
  t.deepEqual(levels, ['warn', 'debug', 'debug', 'debug']);
  const b = await serving(t, path, target);
  await a.event('session-established');
  t.is(await ask(t, port, 'again'), 'again');
  const { message } = await a.event('outage-over');
  t.regex(message, /:\d+ \(echo\) works again; 3 more connections had been reset without a session$/);
  await b.proxy.stop();
  t.is(await refusal(t, port), 'ECONNRESET');
  await eventually(() => a.all('stream-refused').at(-1)?.level === 'warn');
});

test('a reset at one end is a reset at the other, in both directions', async (t) => {
  const accepted: net.Socket[] = [];
  const server = await localServer(t, (socket) => {
    accepted.push(socket);
    socket.write('ready');
  });
  const { connect } = await proxyPair(t, { targets: `x:${server.port}` });
  for (const isLocal of [true, false]) {
    const local = connect();
    await once(local, 'data');
    const ends = [local, accepted.at(-1) as net.Socket] as const;
    const [resetting, other] = isLocal ? ends : [ends[1], ends[0]];
    const failure = failureOf(other);
    resetting.resetAndDestroy();
    t.is((await failure).code, 'ECONNRESET');
  }
});

test('a stream cancelled while its target is dialled is a reset for the target, not a request of 0 bytes', async (t) => {
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
  const { a } = await proxyPair(t, { targets: `x:${server.port}` });
  for (let count = 0; count < 100; count += 1) {
    // A cancelled one may not be answered yet.
    const stream = await a.proxy.openStream('x');
    stream.on('error', () => undefined).write('a request');
    for (let turn = 0; turn < count % 4; turn += 1) await setImmediate();
    stream.destroy();
  }
  await eventually(() => seen.length > 25 && open === 0);
  t.deepEqual(new Set(seen), new Set(['reset']));
});

test('a target that never reads holds up no other: two hundred connections at once each get their own answer', async (t) => {
  const deaf = await localServer(t, (socket) => socket.pause());
  const lively = await localServer(t, echo);
  const { connect } = await proxyPair(t, { targets: [`echo:${lively.port}`, `deaf:${deaf.port}`] });
  const block = randomBytes(1_000_000);
  for (let index = 0; index < 20; index += 1) {
    const socket = connect('deaf').on('error', () => undefined);
    for (let count = 0; count < 12; count += 1) socket.write(block);
    await once(socket, 'connect');
  }
  const answers = Array.from({ length: 200 }, async (_, index) => {
    const socket = connect();
    const data = Buffer.alloc(10_000 + index, index);
    socket.end(data);
    return (await readToEnd(socket)).equals(data);
  });
  t.true((await Promise.all(answers)).every(Boolean));
});

test('an address in use is an error with its own code, and nothing is left listening', async (t) => {
  const taken = await localServer(t, echo);
  const path = `unix-connect:${join(temporaryFolder(t), 'x.sock')}`;
  const free = await localServer(t, echo);
  const { port } = free;
  free.close();
  const starting = startProxy(t, path, { outgoing: [`free:127.9.8.7:${port}`, `busy:${taken.port}`] });
  await t.throwsAsync(starting, { code: 'address-in-use', message: new RegExp(`:${taken.port}`) });
  t.is((await failureOf(localSocket(t, { host: '127.9.8.7', port }))).code, 'ECONNREFUSED');
});

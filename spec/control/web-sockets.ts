/** WebSockets on the control socket: streams to any service, and terminals. */
import { once } from 'node:events';
import type net from 'node:net';
import { createConnection } from 'node:net';
import type { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import WebSocket from 'ws';
import { connectPeer } from '../../lib/peer.js';
import { EXEC_KIND } from '../../lib/services/exec/exec-messages.js';
import { unwrittenBytesOf } from '../../lib/system/sockets/node-sockets.js';
import { encodeRecord } from '../../lib/util/bytes/records.js';
import { deferred } from '../../lib/util/concurrency.js';
import { openConnection, startControl } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, readToEnd, startProxy, steeredPair, type TestProxy } from '../helpers/proxies.js';
import { eventually, ManualClock, untilStill, within } from '../helpers/time.js';
import { isRunning } from '../helpers/vproxy-process.js';

async function setUp(t: ExecutionContext, target: (socket: net.Socket) => void = echo) {
  const { port } = await localServer(t, target);
  const peer = { incoming: [`x:127.0.0.1:${port}`], exec: { commands: 'any' } } as const;
  const { here, peer: there, control } = await steeredPair(t, { peer });
  return { here, there, ...control };
}

const inShell = (script: string): string =>
  `/v1/terminal?argv=${encodeURIComponent(JSON.stringify(['sh', '-c', script]))}`;

interface Opened {
  readonly socket: WebSocket;
  /** What came so far. */
  received: string;
  /** How it was closed: the code, and the reason. */
  readonly closed: Promise<string>;
}

function openSocket(
  t: ExecutionContext,
  path: string,
  url: string,
  { protocols = [], origin }: { readonly protocols?: string[]; readonly origin?: string } = {},
): Opened {
  const socket = new WebSocket(`ws+unix:${path}:${url}`, protocols, { ...(origin !== undefined && { origin }) });
  t.teardown(() => socket.terminate());
  const opened = {
    socket,
    received: '',
    closed: new Promise<string>((resolve, reject) => {
      socket.once('close', (code, reason) => resolve(`${code} ${reason.toString()}`.trimEnd()));
      socket.once('error', reject);
    }),
  };
  opened.closed.catch(() => undefined);
  socket.on('message', (bytes: Buffer) => {
    opened.received += bytes.toString();
  });
  return opened;
}

async function openReady(...args: Parameters<typeof openSocket>): Promise<Opened> {
  const opened = openSocket(...args);
  await Promise.race([once(opened.socket, 'open'), opened.closed]);
  return opened;
}

const shows = (opened: Opened, text: string | RegExp) =>
  eventually(() => opened.received.search(text) !== -1, { what: `${text} in ${JSON.stringify(opened.received)}` });

const noStreams = ({ proxy }: TestProxy) =>
  eventually(() => proxy.listStreams().length === 0, { what: 'the end of all streams' });

test('a WebSocket carries the bytes of a stream in binary messages; a close ends its direction', async (t) => {
  const { here, path } = await setUp(t, (socket) => {
    socket.write('first');
    // Answers only after EOF.
    void readToEnd(socket)
      .then((bytes) => t.is(bytes.length, 3_000_004))
      .finally(() => socket.end());
  });
  const opened = await openReady(t, path, '/v1/connect?service=x&channel=default');
  await shows(opened, 'first');
  for (let count = 0; count < 30; count += 1) opened.socket.send(Buffer.alloc(100_000));
  opened.socket.send('text');
  opened.socket.close();
  t.is(await opened.closed, '1005');
  await noStreams(here);
  t.is(here.proxy.channel('default').totals.streamsFailed, 0);
});

test('both ways at once, no byte is lost; the end of the stream closes it in order', async (t) => {
  const { here, path } = await setUp(t, (socket) => {
    let left = 8_000_000;
    socket.on('data', (chunk: Buffer) => {
      socket.write(chunk);
      left -= chunk.length;
      if (left === 0) socket.end();
    });
  });
  const opened = await openReady(t, path, '/v1/connect?service=x');
  const sent = Array.from({ length: 8 }, (_, index) => String(index).repeat(1_000_000));
  for (const text of sent) opened.socket.send(text);
  t.is(await opened.closed, '1000');
  t.true(opened.received === sent.join(''));
  await noStreams(here);
});

test('a reader that stops holds the stream back, and a reset closes it with its reason', async (t) => {
  const targets: net.Socket[] = [];
  const { here, path } = await setUp(t, (socket) => {
    targets.push(socket);
    socket.on('error', () => undefined).write(Buffer.alloc(50_000_000));
  });
  const opened = await openReady(t, path, '/v1/connect?service=x');
  opened.socket.pause();
  await untilStill(() => targets[0]?.writableLength);
  t.true((targets[0]?.writableLength ?? 0) > 40_000_000, `${targets[0]?.writableLength}`);
  targets[0]?.resetAndDestroy();
  opened.socket.resume();
  t.regex(await opened.closed, /^1011 local-error: .*ECONNRESET/);
  await noStreams(here);
});

test('a client that disappears resets an attached stream, and half-closes any other, until more comes for it', async (t) => {
  for (const isAttached of [true, false]) {
    const heard: string[] = [];
    const targets: net.Socket[] = [];
    const { here, path } = await setUp(t, (socket) => {
      targets.push(socket);
      socket.on('error', () => heard.push('reset')).on('end', () => heard.push('end'));
      socket.resume();
    });
    const opened = await openReady(t, path, `/v1/connect?service=x&attached=${String(isAttached)}`);
    opened.socket.terminate();
    await eventually(() => heard.length > 0);
    t.deepEqual(heard, [isAttached ? 'reset' : 'end']);
    if (!isAttached) targets[0]?.write('more');
    await noStreams(here);
  }
});

test('a page of another origin, a wrong handshake and too long a message are refused', async (t) => {
  const { path } = await setUp(t);
  for (const url of ['/v1/connect?service=x', '/v1/terminal']) {
    for (const origin of ['http://example.org', 'null', 'http://localhost:81', 'http://localhost.'])
      await t.throwsAsync(openReady(t, path, url, { origin }), { message: /403/ });
    t.is((await openReady(t, path, url, { origin: 'http://localhost' })).socket.readyState, WebSocket.OPEN);
  }
  await t.throwsAsync(openReady(t, path, '/v1/connect?service=y'), { message: /503/ });
  await t.throwsAsync(openReady(t, path, '/v1/status'), { message: /400/ });
  const opened = await openReady(t, path, '/v1/connect?service=x');
  opened.socket.send(Buffer.alloc(1_048_577));
  t.is(await opened.closed, '1009');
});

test('a terminal takes texts and bytes as input, and its end has the status', async (t) => {
  const { here, path } = await setUp(t);
  const argv = encodeURIComponent(JSON.stringify(['sh', '-c', 'stty size; echo $TERM; read a; echo "<$a>"; exit 7']));
  const opened = await openReady(t, path, `/v1/terminal?argv=${argv}&columns=132&rows=43&term=vt100`);
  await shows(opened, /43 132\r\nvt100\r\n/);
  opened.socket.send('{"columns":1,');
  opened.socket.send(Buffer.from('"rows":1}\n'));
  t.is(await opened.closed, '1000 exit 7');
  t.true(opened.received.endsWith('<{"columns":1,"rows":1}>\r\n'), opened.received);
  const killed = await openReady(t, path, `/v1/terminal?argv=${encodeURIComponent('["sh","-c","kill -KILL $$"]')}`);
  t.is(await killed.closed, '1000 SIGKILL');
  await noStreams(here);
});

test('with its subprotocol, texts resize a terminal', async (t) => {
  const { path } = await setUp(t);
  const script = "trap 'stty size' WINCH; echo ready; while :; do read a; done";
  const url = `/v1/terminal?argv=${encodeURIComponent(JSON.stringify(['sh', '-c', script]))}`;
  const opened = await openReady(t, path, url, { protocols: ['other', 'vproxy.terminal'] });
  t.is(opened.socket.protocol, 'vproxy.terminal');
  await shows(opened, 'ready');
  opened.socket.send('{"columns":100,"rows":30}');
  opened.socket.send(Buffer.from('\n'));
  await shows(opened, '30 100');
  for (const text of ['{"columns":0,"rows":30}', '{"columns":10}', '{', '[]', 'null', '{"columns":1,"rows":1,"a":1}']) {
    const other = await openReady(t, path, url, { protocols: ['vproxy.terminal'] });
    other.socket.send(text);
    t.regex(await other.closed, /^1003 bad-argument: the size of the terminal: /);
  }
});

test('a command whose client has gone is ended; one that cannot run closes with the reason', async (t) => {
  const { ask, here, path } = await setUp(t);
  const opened = await openReady(t, path, `/v1/terminal?argv=${encodeURIComponent('["sh","-c","echo $$; sleep 60"]')}`);
  await shows(opened, /^\d+\r\n/);
  const pid = Number.parseInt(opened.received, 10);
  t.true(isRunning(pid));
  t.regex(here.proxy.obstacles().join(), /stream \d+ to exec/);
  opened.socket.terminate();
  await eventually(() => !isRunning(pid));
  const missing = await openReady(t, path, `/v1/terminal?argv=${encodeURIComponent('["/no/such"]')}`);
  t.regex(await missing.closed, /^1011 command-not-found: /);
  for (const query of ['argv=sh', 'argv={}', 'argv=[1]', 'columns=0', 'rows=65536', 'columns=a', 'shell=sh'])
    await t.throwsAsync(openReady(t, path, `/v1/terminal?${query}`), { message: /400/ });
  t.is((await ask('GET', '/v1/terminal')).status, 426);
  await noStreams(here);
});

test('a client that goes while its input is held up is noticed, however little the command takes', async (t) => {
  const { here, path } = await setUp(t, (socket) => void socket.on('error', () => undefined).pause());
  const opened = await openReady(t, path, inShell('stty raw -echo; echo $$; sleep 60'));
  await shows(opened, /^\d+\r?\n/);
  const pid = Number.parseInt(opened.received, 10);
  const joined = await openReady(t, path, '/v1/connect?service=x&attached=true');
  t.true(isRunning(pid));
  for (const { socket } of [opened, joined]) {
    for (let count = 0; count < 300; count += 1) socket.send(Buffer.alloc(100_000));
    await untilStill(() => socket.bufferedAmount);
    socket.terminate();
  }
  await eventually(() => !isRunning(pid), { what: 'the end of the command' });
  await noStreams(here);
});

test('what a client sent before it left reaches a service that takes it later', async (t) => {
  const targets: net.Socket[] = [];
  const { here } = await setUp(t, (socket) => void targets.push(socket.pause()));
  const clock = new ManualClock();
  const { path } = await startControl(t, here.proxy, { clock });
  const socket = await openConnection(t, path);
  const key = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';
  socket.write(
    `GET /v1/connect?service=x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${key}\r\n\r\n`,
  );
  await once(socket, 'data');
  const before = socket.bytesWritten;
  // Masked by four zeros.
  const frame = Buffer.concat([Buffer.from('82fe03e800000000', 'hex'), Buffer.alloc(1000)]);
  for (let count = 0; count < 30_000; count += 1) socket.write(frame);
  await untilStill(() => unwrittenBytesOf(socket));
  const sentBytes = ((socket.bytesWritten - before - (unwrittenBytesOf(socket) ?? 0)) / frame.length) * 1000;
  socket.destroy();
  const [target] = targets;
  let receivedBytes = 0;
  for (let looks = 0; looks < 20; looks += 1) {
    clock.advance(1000);
    await nextTurn();
  }
  const ended = once(target as net.Socket, 'end');
  target
    ?.on('data', ({ length }: Buffer) => {
      receivedBytes += length;
    })
    .resume();
  await ended;
  // All but the message of which a part was left.
  t.true(receivedBytes > sentBytes - 2000, `${receivedBytes} of ${sentBytes}`);
});

test('who reads slowly gets all and the status, for which an upgrade waits for a while; who does not answer the close is cut off', async (t) => {
  const { here } = await setUp(t);
  const clock = new ManualClock();
  const { path, server } = await startControl(t, here.proxy, { clock });
  const opened = await openReady(t, path, inShell('stty raw; head -c 450000 /dev/zero; exit 3'));
  opened.socket.pause();
  const silent = await openConnection(t, path);
  const key = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';
  const head = `GET ${inShell('exit 3')} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${key}\r\n\r\n`;
  const cutOff = once(silent.resume(), 'end');
  silent.write(head);
  await eventually(() => here.proxy.listStreams().length > 0);
  await noStreams(here);
  t.true(server.isChanging);
  clock.advance(100_000);
  await cutOff;
  t.false(server.isChanging);
  opened.socket.resume();
  t.is(await opened.closed, '1000 exit 3');
  t.is(opened.received.length, 450_000);
  await eventually(() => !server.isChanging);
});

test('many pings at once are answered, and a stop of vproxy closes with 1012', async (t) => {
  const { path, server } = await setUp(t);
  const terminal = await openReady(t, path, inShell('sleep 60'));
  const joined = await openReady(t, path, '/v1/connect?service=x');
  let pongs = 0;
  joined.socket.on('pong', () => {
    pongs += 1;
  });
  for (let count = 0; count < 1000; count += 1) joined.socket.ping();
  await eventually(() => pongs === 1000, { what: 'the pongs' });
  await server.close();
  for (const { closed } of [terminal, joined]) t.is(await closed, '1012 shutdown: vproxy is stopping');
});

test('whatever the peer says about the end of a command closes the WebSocket', async (t) => {
  const channel = `${temporaryFolder(t)}/channel`;
  const { proxy } = await startProxy(t, `unix-listen:${channel}`);
  const { path } = await startControl(t, proxy);
  const exit = { status: null, timedOut: false, durationMs: 1, error: null };
  const exec = (stream: Duplex) =>
    void stream.resume().end(encodeRecord(EXEC_KIND.EXIT, JSON.stringify({ ...exit, signal: 'S\n'.repeat(200) })));
  const peer = connectPeer(createConnection({ path: channel, allowHalfOpen: true }), { services: { exec } });
  t.teardown(() => peer.close());
  const opened = await openReady(t, path, '/v1/terminal');
  t.is(await opened.closed, `1000 ${'S\\n'.repeat(41)}`);
});

test('a terminal of a job outlives its WebSocket, and comes back at the next byte, with its size', async (t) => {
  const { ask, here, path } = await setUp(t);
  const argv = ['sh', '-c', 'stty -echo; echo ready; while read a; do echo "<$a> $(stty size)"; done; exit 3'];
  const body = { argv, terminal: { columns: 100, rows: 30 }, tag: 'build', unique: true };
  const { id } = (await ask('POST', '/v1/jobs', { body })).body as { id: string };
  t.is((await ask('POST', '/v1/jobs', { body })).status, 409);
  const open = (query = '', protocols: string[] = []) =>
    openReady(t, path, `/v1/terminal?job=${id}${query}`, { protocols });
  const first = await open();
  await shows(first, /ready\r\n/);
  first.socket.send('one\n');
  await shows(first, '<one> 24 80');
  first.socket.terminate();
  await noStreams(here);
  const second = await open(`&from=${first.received.length}&columns=132&rows=43`, ['vproxy.terminal']);
  second.socket.send(Buffer.from('two\n'));
  await shows(second, /two> 43 132\r\n/);
  const at = first.received.length;
  t.is(second.received, `{"at":${at},"end":${at}}<two> 43 132\r\n`);
  const taken = await open();
  t.regex(await taken.closed, /^1011 input-taken: /);
  const third = await open('&steal=true&from=0');
  t.regex(await second.closed, /^1011 input-taken: /);
  await shows(third, /two> 43 132\r\n/);
  t.true(third.received.startsWith('ready\r\n<one>'), third.received);
  third.socket.send('last\n');
  third.socket.close();
  await noStreams(here);
  const fourth = await open(`&from=${third.received.length}`);
  await shows(fourth, '<last> 24 80');
  fourth.socket.send('\u0004');
  t.is(await fourth.closed, '1000 exit 3');
  t.is(await (await open()).closed, '1000 exit 3');
  await t.throwsAsync(openReady(t, path, '/v1/terminal?job=01234567'), { message: /404/ });
  await noStreams(here);
});

test('the terminal of a job says which byte follows where output was dropped', async (t) => {
  const { ask, path } = await setUp(t);
  // Each line has ten bytes.
  const argv = ['sh', '-c', 'stty raw -echo; read a; seq -f %09.0f 500000'];
  const body = { argv, terminal: { columns: 80, rows: 24 }, keepBytes: 5000 };
  const { id } = (await ask('POST', '/v1/jobs', { body })).body as { id: string };
  const { socket, closed } = await openReady(t, path, `/v1/terminal?job=${id}&from=0`, {
    protocols: ['vproxy.terminal'],
  });
  let [at, gaps, wrong] = [-1, 0, 0];
  socket.on('message', (bytes: Buffer, isBinary) => {
    if (!isBinary) {
      const next = (JSON.parse(bytes.toString()) as { at: number }).at;
      if (next <= at) wrong += 1;
      gaps += at === -1 ? 0 : 1;
      at = next;
      return;
    }
    const first = Math.floor(at / 10) + 1;
    const count = Math.ceil(bytes.length / 10) + 1;
    const lines = Array.from({ length: count }, (_, index) => `${String(first + index).padStart(9, '0')}\n`).join('');
    if (!lines.slice(at % 10).startsWith(bytes.toString())) wrong += 1;
    at += bytes.length;
  });
  socket.pause();
  socket.send(Buffer.from('\n'));
  const jobs = async () => ((await ask('GET', '/v1/jobs')).body as { endedAt: string | null }[])[0];
  await eventually(async () => (await jobs())?.endedAt !== null, { what: 'the end of the job' });
  socket.resume();
  t.is(await closed, '1000 exit 0');
  t.deepEqual([at, wrong, gaps > 0], [5_000_000, 0, true]);
});

test('all of many short messages reaches a job whose client leaves without a close', async (t) => {
  const count = 3000;
  const { ask, here, path } = await setUp(t);
  const argv = ['sh', '-c', `stty raw -echo; echo ready; head -c ${count} | wc -c`];
  const body = { argv, terminal: { columns: 80, rows: 24 } };
  const { id } = (await ask('POST', '/v1/jobs', { body })).body as { id: string };
  const first = await openReady(t, path, `/v1/terminal?job=${id}`);
  await shows(first, 'ready');
  for (let sent = 1; sent < count; sent += 1) first.socket.send('x');
  await new Promise((resolve) => first.socket.send('x', resolve));
  first.socket.terminate();
  await noStreams(here);
  const second = await openReady(t, path, `/v1/terminal?job=${id}&from=0`);
  await shows(second, String(count));
  t.is(await second.closed, '1000 exit 0');
});

test('a job reads all that its client sent before a close, however much it answers meanwhile', async (t) => {
  const count = 1_000_000;
  const { ask, here, path } = await setUp(t);
  const argv = ['sh', '-c', `stty raw -echo; echo ready; head -c ${count} | od -v -An -tx1; echo all`];
  const body = { argv, terminal: { columns: 80, rows: 24 } };
  const { id } = (await ask('POST', '/v1/jobs', { body })).body as { id: string };
  const first = await openReady(t, path, `/v1/terminal?job=${id}`);
  await shows(first, 'ready');
  for (let sent = 0; sent < count; sent += 10_000) first.socket.send(Buffer.alloc(10_000, 'x'));
  first.socket.close();
  await noStreams(here);
  const { closed } = await openReady(t, path, `/v1/terminal?job=${id}`);
  t.is(await within(20_000, 'the end of the job', closed), '1000 exit 0');
});

test('whose job takes nothing is closed at once when another client takes over', async (t) => {
  const { ask, here } = await setUp(t);
  const { path } = await startControl(t, here.proxy, { clock: new ManualClock() });
  const body = { argv: ['sh', '-c', 'stty raw -echo; echo ready; sleep 60'], terminal: { columns: 80, rows: 24 } };
  const { id } = (await ask('POST', '/v1/jobs', { body })).body as { id: string };
  const first = await openReady(t, path, `/v1/terminal?job=${id}&from=0`);
  await shows(first, 'ready');
  for (let count = 0; count < 300; count += 1) first.socket.send(Buffer.alloc(10_000));
  await untilStill(() => first.socket.bufferedAmount);
  t.true(first.socket.bufferedAmount > 0);
  await openReady(t, path, `/v1/terminal?job=${id}&steal=true`);
  t.regex(await within(10_000, 'its close', first.closed), /^1011 input-taken: /);
});

test('many short messages that come at once leave turns of the event loop to others', async (t) => {
  const [count, targets] = [5000, deferred<net.Socket>()];
  const { path } = await setUp(t, (socket) => targets.resolve(socket));
  const { socket } = await openReady(t, path, '/v1/connect?service=x');
  const target = await targets.promise;
  let [turns, bytes] = [0, 0];
  target.on('data', ({ length }: Buffer) => {
    bytes += length;
  });
  for (let sent = 0; sent < count; sent += 1) socket.send('x');
  for (; bytes < count; turns += 1) await nextTurn();
  t.true(turns > count / 2, `${turns} turns`);
});

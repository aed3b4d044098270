/** Streams on connections of the control socket. */
import { once } from 'node:events';
import type net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import type { StreamEnd } from '../../lib/status/types.js';
import { askForStream, openStream } from '../helpers/control.js';
import { echo, localServer, localSocket, readToEnd, steeredPair } from '../helpers/proxies.js';
import { eventually, untilStill } from '../helpers/time.js';

async function setUp(t: ExecutionContext, target: ((socket: net.Socket) => void) | string) {
  const endpoint = typeof target === 'string' ? target : `127.0.0.1:${(await localServer(t, target)).port}`;
  const { here, control } = await steeredPair(t, { peer: { incoming: [`x:${endpoint}`] } });
  return { a: here, ...control };
}

const noStreams = ({ a }: Awaited<ReturnType<typeof setUp>>) =>
  eventually(() => a.proxy.listStreams().length === 0, { what: 'the end of all streams' });

test('data flows both ways, with half-close', async (t) => {
  const setup = await setUp(t, (socket) => {
    // Answers only after EOF.
    void readToEnd(socket).then((bytes) => socket.end(`${bytes.length} bytes`));
  });
  const socket = await openStream(t, setup.path, 'service=x&channel=default&attached=true');
  socket.end(Buffer.alloc(3_000_000));
  t.is((await readToEnd(socket)).toString(), '3000000 bytes');
  await noStreams(setup);
  t.is(setup.a.proxy.channel('default').totals.streamsFailed, 0);
});

test('a program that sends nothing, and ends before its stream is open, gets the answer to that', async (t) => {
  const setup = await setUp(t, (socket) => {
    void readToEnd(socket).then((bytes) => socket.end(`${bytes.length} bytes`));
  });
  const socket = localSocket(t, { path: setup.path, allowHalfOpen: true });
  const upgrade = 'Connection: Upgrade\r\nUpgrade: vproxy-stream\r\n';
  socket.end(`GET /v1/connect?service=x HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`);
  t.regex((await readToEnd(socket)).toString(), /\r\n\r\n0 bytes$/);
  await noStreams(setup);
});

test('an attached program resets its stream when it disconnects; any other one half-closes it', async (t) => {
  for (const isAttached of [true, false]) {
    const heard: string[] = [];
    const setup = await setUp(t, (socket) => {
      socket.on('error', () => heard.push('reset')).on('end', () => heard.push('end'));
      socket.resume();
    });
    const socket = await openStream(t, setup.path, `service=x&attached=${String(isAttached)}`);
    socket.destroy();
    await eventually(() => heard.length > 0);
    t.deepEqual(heard, [isAttached ? 'reset' : 'end']);
    t.is(setup.a.proxy.listStreams().length, isAttached ? 0 : 1);
  }
});

test('an attached program that disconnects is noticed while the service takes nothing', async (t) => {
  const setup = await setUp(t, (socket) => void socket.pause());
  const socket = await openStream(t, setup.path, 'service=x&attached=true');
  socket.write(Buffer.alloc(60_000_000));
  await untilStill(() => setup.a.proxy.listStreams()[0]?.sentBytes);
  socket.destroy();
  await noStreams(setup);
  t.is(setup.a.proxy.channel('default').totals.streamsFailed, 1);
});

test('data in one chunk with the request belongs to the stream; other protocols and paths are not upgraded', async (t) => {
  const { path } = await setUp(t, echo);
  const answerOf = async (url: string, protocol: string, more = '') => {
    const socket = localSocket(t, { path });
    socket.write(`GET ${url} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n${more}`);
    if (more !== '') socket.end();
    return (await readToEnd(socket)).toString();
  };
  t.regex(
    await answerOf('/v1/connect?service=x', 'vproxy-stream', 'hello'),
    /^HTTP\/1.1 101 .*\r\nConnection: Upgrade\r\nUpgrade: vproxy-stream\r\nVproxy-Stream: default\/\d+\r\nVproxy-End: \/v1\/connect\/1\r\n\r\nhello$/s,
  );
  const refused = /^HTTP\/1.1 400 Bad Request\r\n.*\r\n\r\n\{"error".*\}\n$/s;
  const long = 'x'.repeat(3_000_000);
  t.true((await answerOf('/v1/connect?service=x', 'vproxy-stream', long)).endsWith(`\r\n\r\n${long}`));
  t.regex(await answerOf('/v1/connect?service=x', 'h2c'), refused);
  t.regex(
    await answerOf('/v1/connect?service=x', 'websocket'),
    /^HTTP\/1.1 400 .*\{"code":"bad-argument","message":"WebSocket: /s,
  );
  t.regex(await answerOf('/v1/status', 'vproxy-stream'), refused);
});

test('a stream reset closes the connection at once, and the end of a stream can be looked up by its number', async (t) => {
  const setup = await setUp(t, (socket) => {
    socket.once('data', (chunk: Buffer) => {
      if (chunk.toString() === 'reset') socket.resetAndDestroy();
      else socket.end();
    });
  });
  const tell = async (id: number) => (await setup.ask('GET', `/v1/connect/${id}`)).body as StreamEnd;
  for (const [id, end] of [
    [1, 'reset'],
    [2, 'end'],
  ] as const) {
    const socket = await openStream(t, setup.path, 'service=x');
    t.deepEqual(await tell(id), { state: 'open', error: null });
    const ended = once(socket.resume(), 'end');
    socket.write(end);
    await ended;
    socket.end();
    await noStreams(setup);
  }
  const { state, error } = await tell(1);
  t.deepEqual([state, error?.code], ['reset', 'local-error']);
  t.regex(error?.message ?? '', /^stream \d+ to x was reset: .*ECONNRESET/);
  await eventually(async () => (await tell(2)).state === 'ended');
  t.is((await setup.ask('GET', '/v1/connect/3')).status, 404);
  t.is(setup.a.proxy.channel('default').totals.streamsFailed, 1);
});

test('a target that stops reading still delivers its whole answer, whatever is written to it', async (t) => {
  const setup = await setUp(t, 'exec:exec 0<&-; head -c 3000000 /dev/zero');
  const socket = await openStream(t, setup.path, 'service=x');
  const answer = readToEnd(socket);
  const chunk = Buffer.alloc(65_536);
  const write = (): void => {
    if (!socket.readableEnded) socket.write(chunk, write);
  };
  write();
  t.is((await answer).length, 3_000_000);
  socket.end();
  await noStreams(setup);
  t.is(setup.a.proxy.channel('default').totals.streamsFailed, 0);
});

test('a client that does not read blocks only its own stream', async (t) => {
  let writtenBytes = 0;
  const setup = await setUp(t, (socket) => {
    const chunk = Buffer.alloc(65_536);
    const write = () => {
      while (writtenBytes < 64 * 1024 * 1024 && socket.write(chunk)) writtenBytes += chunk.length;
    };
    socket.on('drain', write);
    write();
  });
  const socket = await openStream(t, setup.path, 'service=x');
  socket.pause();
  await untilStill(() => writtenBytes, { intervalMs: 200, what: 'the target to be stopped' });
  t.true(writtenBytes < 16 * 1024 * 1024, String(writtenBytes));
  t.is((await setup.ask('GET', '/v1/channels')).status, 200);
});

test('a stream that cannot be opened is refused with the reason', async (t) => {
  const setup = await setUp(t, '127.0.0.1:1');
  for (const [query, ...wanted] of [
    ['service=x', 503, 'connect-refused', undefined],
    ['service=nothing', 503, 'unknown-service', undefined],
    ['service=x&channel=vm7', 404, 'not-found', undefined],
    ['', 400, 'bad-argument', 'service'],
    ['service=x&colour=red', 400, 'bad-argument', 'colour'],
  ] as const) {
    const answer = await askForStream(t, setup.path, query);
    if (!('status' in answer)) throw new Error('it was granted');
    const { error } = JSON.parse(answer.text) as { error: { code: string; field?: string } };
    t.deepEqual([answer.status, error.code, error.field], wanted, query);
  }
});

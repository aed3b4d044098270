import type net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import { vsockMuxConnectKind } from '../../lib/channel/vsock-mux.js';
import type { Link } from '../../lib/link/link.js';
import { SocketLink } from '../../lib/link/socket-link.js';
import { readBuffered } from '../../lib/system/sockets/node-sockets.js';
import { deferred } from '../../lib/util/concurrency.js';
import { bothWays, testEnds, testLinks } from '../helpers/channel-conformance.js';
import { dial, type LinkPair, LinkRecorder, listen, patiently } from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { answering, firecracker, inPieces } from '../helpers/hybrid-vsock.js';
import { connectedProxies, echo, localServer, localSocket, readToEnd, TestProxy } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** A link through a fake Firecracker, and the guest's end of it. */
async function openHybridPair(t: ExecutionContext): Promise<LinkPair> {
  const path = join(temporaryFolder(t), 'vmm.vsock');
  const guest = deferred<Link>();
  const listener = await listen(t, `unix-listen:${path}.guest`);
  await localServer(
    t,
    (socket) => {
      // Reads no more than the line, as the real one does, so that the rest is the link's.
      socket.pause();
      socket.once('readable', () => {
        const line = socket.read() as Buffer;
        if (line.toString() !== 'CONNECT 1234\n') {
          socket.destroy();
          return;
        }
        socket.removeAllListeners('readable');
        guest.resolve(new SocketLink('guest', (onread) => readBuffered(socket, onread)));
        socket.write('');
      });
    },
    { path },
  );
  const dialling = dial(t, `vsock-mux-connect:${path}:1234`);
  const far = await guest.promise;
  far.write(Buffer.from('OK 1073741824\n'));
  const dialled = await dialling;
  t.teardown(() => far.destroy());
  return { dialled, accepted: far, listener };
}

const [dialled] = bothWays(openHybridPair);
testLinks('vsock-mux-connect', dialled);
testEnds('vsock-mux-connect', dialled);

async function openListenPair(t: ExecutionContext): Promise<LinkPair> {
  const path = join(temporaryFolder(t), 'vmm.vsock_1234');
  const accepted = deferred<Link>();
  const listener = await listen(t, `vsock-mux-listen:${path}`, { onLink: (link) => accepted.resolve(link) });
  const near = await dial(t, `unix-connect:${path}`);
  const far = await accepted.promise;
  t.teardown(() => far.destroy());
  return { dialled: near, accepted: far, listener };
}

const [, listening] = bothWays(openListenPair);
testLinks('vsock-mux-listen', listening);
testEnds('vsock-mux-listen', listening);

test('the line is one write, and what comes behind the answer belongs to the channel', async (t) => {
  const path = join(temporaryFolder(t), 'vmm');
  const requests = await firecracker(t, path, { 7: (socket) => socket.write('hello') });
  const link = await dial(t, `vsock-mux-connect:${path}:7`);
  const handler = new LinkRecorder();
  link.start(handler);
  await handler.received(5);
  t.is(handler.bytes.toString(), 'hello');
  t.deepEqual(requests, [{ line: 'CONNECT 7\n', early: '' }]);
});

test('a line in two writes is what the fake, as Firecracker, refuses', async (t) => {
  const path = join(temporaryFolder(t), 'vmm');
  const requests = await firecracker(t, path, { 7: echo });
  const socket = localSocket(t, { path });
  socket.write('CONN');
  t.is((await readToEnd(socket)).length, 0);
  t.deepEqual(requests, [{ line: '', early: 'CONN' }]);
});

test('an answer in pieces is understood', async (t) => {
  const path = join(temporaryFolder(t), 'vmm');
  await answering(t, path, (socket) => inPieces(socket, ['O', 'K 10', '73741824', '\nfirst', ' second']));
  const link = await dial(t, `vsock-mux-connect:${path}:7`);
  const handler = new LinkRecorder();
  link.start(handler);
  await handler.received(12);
  t.is(handler.bytes.toString(), 'first second');
});

for (const [what, answer, code, message] of [
  ['a bare close', (socket: net.Socket) => socket.destroy(), 'channel-refused', /nobody listens on port 7 there/],
  ['an orderly end', (socket: net.Socket) => socket.end(), 'channel-refused', /nobody listens on port 7 there/],
  [
    'another answer',
    (socket: net.Socket) => socket.write('\u001b[2J no\n'),
    'channel-failed',
    /answered "\\x1b\[2J no"/,
  ],
  ['an endless answer', (socket: net.Socket) => socket.write('OK'.repeat(99)), 'channel-failed', /more than a line/],
] as const) {
  test(`${what} is ${code}, and can be tried again`, async (t) => {
    const path = join(temporaryFolder(t), 'vmm');
    await answering(t, path, (socket) => void answer(socket));
    const error = await t.throwsAsync(dial(t, `vsock-mux-connect:${path}:7`), { code, message });
    t.true((error as unknown as { row: { retry: boolean } }).row.retry);
  });
}

test('no answer for 5 s is channel-failed, no socket channel-missing, and dialling can be given up', async (t) => {
  const path = join(temporaryFolder(t), 'vmm');
  let asked = 0;
  await answering(t, path, () => {
    asked += 1;
  });
  const clock = new ManualClock();
  const kind = vsockMuxConnectKind(clock);
  const late = kind.dial({ path, port: 7 }, patiently());
  const failure = t.throwsAsync(late, { code: 'channel-failed', message: /no answer to CONNECT for 5 s/ });
  await eventually(() => asked === 1);
  clock.advance(5000);
  await failure;
  t.is(clock.pending, 0);
  await t.throwsAsync(dial(t, `vsock-mux-connect:${path}.none:7`), { code: 'channel-missing' });
  const stop = new AbortController();
  const given = t.throwsAsync(dial(t, `vsock-mux-connect:${path}:7`, { ...patiently(), signal: stop.signal }), {
    code: 'shutdown',
  });
  stop.abort();
  await given;
});

test('a session runs over hybrid vsock, and comes back when the guest listens again', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'vmm');
  const server = await localServer(t, echo);
  // The guest's side of Firecracker, which is a unix socket here, and vproxy's own hybrid vsock in front of it.
  const guest = await localServer(t, (socket) => {
    const onward = localSocket(t, { path: join(folder, 'guest') });
    onward.on('error', () => socket.destroy());
    socket.pipe(onward).pipe(socket);
  });
  await connectedProxies(
    t,
    join(folder, 'outer'),
    { outgoing: [`*:vsock-mux:${path},1234=guest`] },
    { incoming: [`guest:${guest.port}`] },
  );
  const host = new TestProxy(t, `vsock-mux-connect:${path}:1234`, { outgoing: ['echo:0'] });
  await host.start();
  const inGuest = new TestProxy(t, `unix-listen:${join(folder, 'guest')}`, { incoming: [`echo:${server.port}`] });
  await inGuest.start();
  await host.event('session-established');
  const socket = localSocket(t, { host: '127.0.0.1', port: host.port('echo') });
  socket.end('over two channels');
  t.is((await readToEnd(socket)).toString(), 'over two channels');
});

test('the texts of the four kinds', (t) => {
  for (const text of [
    'vsock-mux-connect:/tmp/vmm.vsock:1234',
    'vsock-mux-connect:/tmp/a,,b:c:4294967295',
    'vsock-mux-listen:/tmp/vmm.vsock_1234',
    'vsock-connect:2:1234',
    'vsock-listen:0',
  ]) {
    t.is(parseChannel(text).text, text);
  }
  for (const text of [
    'vsock-mux-connect:/tmp/vmm.vsock',
    'vsock-mux-connect:/tmp/vmm.vsock:4294967296',
    'vsock-mux-connect::1',
    'vsock-connect:1234',
    'vsock-connect:4294967295:1',
    'vsock-connect:2:',
    'vsock-listen:2:1234',
    'vsock-listen:',
    'vsock-listen:4294967295',
  ]) {
    t.throws(() => parseChannel(text), { code: 'bad-argument' }, text);
  }
});

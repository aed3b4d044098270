import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { answering, firecracker, inPieces } from '../helpers/hybrid-vsock.js';
import { connectedProxies, echo, failureOf, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { eventually, ManualClock, within } from '../helpers/time.js';

test('a stream reaches a port behind hybrid vsock, asked for in one write, with what was sent ahead', async (t) => {
  const folder = temporaryFolder(t);
  const requests = await firecracker(t, join(folder, 'fc'), {
    1234: (socket, early) => {
      socket.write(early);
      echo(socket);
    },
  });
  const { a } = await connectedProxies(
    t,
    join(folder, 'channel'),
    { outgoing: ['x:0'] },
    { incoming: [`x:vsock-mux:${join(folder, 'fc')}:1234`] },
  );
  const data = randomBytes(3_000_001);
  const socket = localSocket(t, { host: '127.0.0.1', port: a.port('x') });
  socket.end(data);
  t.true((await readToEnd(socket)).equals(data));
  t.deepEqual(requests, [{ line: 'CONNECT 1234\n', early: '' }]);
});

test('an answer in pieces, with the first bytes of the connection behind it, is understood', async (t) => {
  const folder = temporaryFolder(t);
  await answering(t, join(folder, 'fc'), (socket) => {
    inPieces(socket, ['O', 'K 107', '3741824', '\nwel', 'come']);
    socket.on('data', (chunk) => socket.end(chunk));
  });
  const { a } = await connectedProxies(
    t,
    join(folder, 'channel'),
    { outgoing: ['x:0'] },
    { incoming: [`x:vsock-mux:${join(folder, 'fc')}:1`] },
  );
  const socket = localSocket(t, { host: '127.0.0.1', port: a.port('x') });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await eventually(() => Buffer.concat(chunks).toString() === 'welcome');
  socket.end(' back');
  await once(socket, 'end');
  t.is(Buffer.concat(chunks).toString(), 'welcome back');
});

for (const [what, answer, message] of [
  ['a bare close', null, /closed the connection: nobody listens on port 7 there \(connect-refused\)/],
  ['another answer', 'NO\n', /it answered "NO" and not OK \(connect-failed\)/],
  ['an answer without an end', 'OK 1'.padEnd(40, '0'), /it answered more than a line and not OK \(connect-failed\)/],
] as const) {
  test(`${what} is a refusal that says so`, async (t) => {
    const folder = temporaryFolder(t);
    await answering(t, join(folder, 'fc'), (socket) => {
      if (answer === null) socket.destroy();
      else socket.write(answer);
    });
    const { a } = await connectedProxies(
      t,
      join(folder, 'channel'),
      { outgoing: ['x:0'] },
      { incoming: [`x:vsock-mux:${join(folder, 'fc')}:7`] },
    );
    const socket = localSocket(t, { host: '127.0.0.1', port: a.port('x') });
    socket.write('first words');
    t.is((await failureOf(socket)).code, 'ECONNRESET');
    t.regex((await a.event('stream-refused')).message, message);
  });
}

test('one that never answers is given up after 5 s, and a socket file that is not there is refused at once', async (t) => {
  const folder = temporaryFolder(t);
  let asked = 0;
  await answering(t, join(folder, 'fc'), () => {
    asked += 1;
  });
  const clock = new ManualClock();
  const { a } = await connectedProxies(
    t,
    join(folder, 'channel'),
    { outgoing: ['x:0', 'y:0'] },
    { incoming: [`x:vsock-mux:${join(folder, 'fc')}:7`, `y:vsock-mux:${join(folder, 'none')}:7`], clock },
  );
  const socket = localSocket(t, { host: '127.0.0.1', port: a.port('x') });
  await eventually(() => asked === 1);
  const failure = failureOf(socket);
  clock.advance(5000);
  t.is((await failure).code, 'ECONNRESET');
  t.regex((await a.event('stream-refused')).message, /did not answer within 5 s \(connect-timeout\)/);
  const since = a.events.length;
  await failureOf(localSocket(t, { host: '127.0.0.1', port: a.port('y') }));
  t.regex((await a.event('stream-refused', since)).message, /ENOENT.*\(connect-refused\)/);
});

test('vproxy offers hybrid vsock itself: by service and by port, with what is sent ahead, and half-close', async (t) => {
  const folder = temporaryFolder(t);
  const server = await localServer(t, echo);
  const path = join(folder, 'vm1.vsock');
  const { a } = await connectedProxies(
    t,
    join(folder, 'channel'),
    { outgoing: [`*:vsock-mux:${path},1234=echo`] },
    { incoming: [`echo:${server.port}`] },
  );
  t.is(lstatSync(path).mode & 0o777, 0o600);
  const data = randomBytes(1_000_003);
  for (const line of ['CONNECT echo\n', 'connect 1234\r\n', 'CONNECT\t echo \n']) {
    const socket = localSocket(t, { path });
    socket.write(Buffer.concat([Buffer.from(line), data]));
    socket.end();
    const answer = await readToEnd(socket);
    const end = answer.indexOf('\n') + 1;
    t.regex(answer.toString('latin1', 0, end), /^OK \d+\n$/);
    t.true(answer.subarray(end).equals(data), line);
  }
  const slow = localSocket(t, { path });
  inPieces(slow, ['CON', 'NECT ec', 'ho', '\nh', 'ello']);
  const [first] = (await once(slow, 'data')) as [Buffer];
  t.regex(first.toString(), /^OK \d+\n/);
  slow.end();
  await readToEnd(slow);
  await a.proxy.stop();
  t.is(lstatSync(path, { throwIfNoEntry: false }), undefined);
});

test('what is no request, or names nothing, is a bare close', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'vm1.vsock');
  const clock = new ManualClock();
  const { a } = await connectedProxies(
    t,
    join(folder, 'channel'),
    { outgoing: [`*:vsock-mux:${path},1234=echo`], clock },
    {},
  );
  for (const [line, why] of [
    ['CONNECT 22\n', /no service is meant by CONNECT 22/],
    ['CONNECT 99999999999999999999\n', /no service is meant/],
    ['CONNECT UPPER\n', /no service is meant/],
    ['CONNECT ../x\n', /no service is meant/],
    ['CONNECT\n', /it began with "CONNECT"/],
    ['CONNECT a b\n', /it began with/],
    ['GET / HTTP/1.1\r\n', /it began with "GET/],
    ['x'.repeat(80), /a line without an end/],
    ['CONNECT echo\n', /service echo is not offered; the peer offers: nothing \(unknown-service\)/],
  ] as const) {
    const since = a.events.length;
    const socket = localSocket(t, { path });
    socket.write(line);
    const bytes = await within(5000, line, readToEnd(socket));
    t.is(bytes.length, 0, line);
    t.regex((await a.event('stream-refused', since)).message, why);
  }
  const silent = localSocket(t, { path });
  await once(silent, 'connect');
  const since = a.events.length;
  const ended = readToEnd(silent);
  await eventually(() => {
    clock.advance(1000);
    return a.events.slice(since).some(({ message }) => /nothing complete for 5 s/.test(message));
  });
  t.is((await ended).length, 0);
});

test('a refused target is a bare close without OK', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'vm1.vsock');
  await connectedProxies(
    t,
    join(folder, 'channel'),
    { outgoing: [`*:vsock-mux:${path}`] },
    { incoming: [`gone:${join(folder, 'nobody')}`] },
  );
  const socket = localSocket(t, { path });
  socket.write('CONNECT gone\n');
  t.is((await readToEnd(socket)).toString(), '');
});

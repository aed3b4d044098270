/** Hybrid vsock, as in Firecracker: dialled for a port, and offered for the services of the peer. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { answering, firecracker, inPieces } from '../helpers/hybrid-vsock.js';
import { countsOf, echo, failureOf, localServer, localSocket, proxyPair, readToEnd } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

test('a stream reaches a port behind hybrid vsock, requested in one write, with data sent ahead', async (t) => {
  const path = join(temporaryFolder(t), 'fc');
  const requests = await firecracker(t, path, {
    1234: (socket, early) => {
      socket.write(early);
      echo(socket);
    },
  });
  const { connect } = await proxyPair(t, { targets: `x:vsock-mux:${path}:1234` });
  const data = randomBytes(3_000_001);
  const socket = connect();
  socket.end(data);
  t.true((await readToEnd(socket)).equals(data));
  t.deepEqual(requests, [{ line: 'CONNECT 1234\n', early: '' }]);
});

test('an answer in pieces, followed by the first bytes of the connection, is understood', async (t) => {
  const path = join(temporaryFolder(t), 'fc');
  await answering(t, path, (socket) => {
    inPieces(socket, ['O', 'K 107', '3741824', '\nwel', 'come']);
    socket.on('data', (chunk) => socket.end(chunk));
  });
  const { connect } = await proxyPair(t, { targets: `x:vsock-mux:${path}:1` });
  const socket = connect();
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await eventually(() => Buffer.concat(chunks).toString() === 'welcome');
  socket.end(' back');
  await once(socket, 'end');
  t.is(Buffer.concat(chunks).toString(), 'welcome back');
});

test('any other answer refuses the stream and is quoted; no answer times out after 5 s; without a socket file it is refused at once', async (t) => {
  const path = join(temporaryFolder(t), 'fc');
  const clock = new ManualClock();
  let answer: string | null | undefined;
  let asked = 0;
  await answering(t, path, (socket) => {
    asked += 1;
    if (answer === null) socket.destroy();
    else if (answer !== undefined) socket.write(answer);
  });
  const targets = [`x:vsock-mux:${path}:7`, `none:vsock-mux:${path}-none:7`];
  const { a, connect } = await proxyPair(t, { targets: targets, b: { clock } });
  for (const [service, said, message] of [
    ['x', null, /connection refused: no listener on port 7 \(connect-refused\)/],
    ['x', 'NO\n', /it answered "NO" instead of OK \(connect-failed\)/],
    ['x', 'OK 1'.padEnd(40, '0'), /it answered more than a line instead of OK \(connect-failed\)/],
    ['x', undefined, /did not answer within 5 s \(connect-timeout\)/],
    ['none', undefined, /ENOENT.*\(connect-refused\)/],
  ] as const) {
    answer = said;
    const [since, before] = [a.events.length, asked];
    const socket = connect(service);
    socket.write('first words');
    const failure = failureOf(socket);
    if (service === 'x') await eventually(() => asked > before);
    if (said === undefined) clock.advance(5000);
    t.is((await failure).code, 'ECONNRESET');
    t.regex((await a.event('stream-refused', since)).message, message);
  }
});

test('vproxy offers hybrid vsock itself: by service and by port, with data sent ahead, and half-close', async (t) => {
  const path = join(temporaryFolder(t), 'vm1.vsock');
  const server = await localServer(t, echo);
  const { a } = await proxyPair(t, {
    targets: `echo:${server.port}`,
    a: { outgoing: [`*:vsock-mux:${path},1234=echo`] },
  });
  t.is(lstatSync(path).mode & 0o777, 0o600);
  const data = randomBytes(1_000_003);
  for (const line of ['CONNECT echo\n', 'connect 1234\r\n', 'CONNECT\t echo \n']) {
    const socket = localSocket(t, path);
    socket.end(Buffer.concat([Buffer.from(line), data]));
    const answer = await readToEnd(socket);
    const end = answer.indexOf('\n') + 1;
    t.regex(answer.toString('latin1', 0, end), /^OK \d+\n$/);
    t.true(answer.subarray(end).equals(data), line);
  }
  const slow = localSocket(t, path);
  inPieces(slow, ['CON', 'NECT ec', 'ho', '\nh', 'ello']);
  const [first] = (await once(slow, 'data')) as [Buffer];
  t.regex(first.toString(), /^OK \d+\n/);
  slow.end();
  await readToEnd(slow);
  await a.proxy.stop();
  t.is(lstatSync(path, { throwIfNoEntry: false }), undefined);
});

test('an invalid, unknown or unanswered request is a bare close', async (t) => {
  const path = join(temporaryFolder(t), 'vm1.vsock');
  const clock = new ManualClock();
  const outgoing = [`*:vsock-mux:${path},1234=echo`];
  const { a } = await proxyPair(t, { targets: `gone:${path}-nobody`, a: { outgoing, clock } });
  for (const [line, why] of [
    ['CONNECT 22\n', /no service for CONNECT 22/],
    ['CONNECT 99999999999999999999\n', /no service for CONNECT/],
    ['CONNECT UPPER\n', /no service for CONNECT/],
    ['CONNECT ../x\n', /no service for CONNECT/],
    ['CONNECT\n', /expected a CONNECT line, got "CONNECT"/],
    ['CONNECT a b\n', /expected a CONNECT line, got "CONNECT a b"/],
    ['GET / HTTP/1.1\r\n', /expected a CONNECT line, got "GET/],
    ['x'.repeat(80), /got an unterminated line/],
    ['CONNECT echo\n', /service echo is not offered; the peer offers: gone \(unknown-service\)/],
    ['CONNECT gone\n', /connect-refused/],
    ['', /no complete line within 5 s/],
  ] as const) {
    const since = a.events.length;
    const socket = localSocket(t, path);
    socket.write(line);
    const ended = readToEnd(socket);
    const silence = line === '' ? 1000 : 0;
    await eventually(
      () => {
        clock.advance(silence);
        return a.events.slice(since).some(({ event, message }) => event === 'stream-refused' && why.test(message));
      },
      { what: String(why) },
    );
    t.is((await ended).length, 0, line);
  }
  const refusals = countsOf(a.tally('outgoing', '*')?.refusals);
  t.deepEqual(refusals, { 'bad-argument': 9, 'unknown-service': 1, 'connect-refused': 1 });
});

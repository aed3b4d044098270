/** Tunnels of an egress: bytes, ends and resets both ways, what is logged, and what a successor gets. */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../../lib/codec/header.js';
import { parseEgressEntry } from '../../../lib/forward/egress/rules.js';
import { patternFrom } from '../../helpers/change-here.js';
import { EgressScene, readAll, readUntil } from '../../helpers/egress.js';
import { sha256 } from '../../helpers/files.js';
import { IncomingScene, MIB } from '../../helpers/forward-scene.js';
import { failureOf, localServer, readToEnd } from '../../helpers/proxies.js';
import { eventually } from '../../helpers/time.js';

const CONNECT = 'CONNECT one.test:443 HTTP/1.1\r\nHost: one.test:443\r\n\r\n';
const ESTABLISHED = 'HTTP/1.1 200 Connection Established\r\n\r\n';

/** A server that hands its connections to a spec. */
async function acceptor(
  t: ExecutionContext,
): Promise<{ readonly port: number; readonly next: () => Promise<net.Socket> }> {
  const sockets: net.Socket[] = [];
  const server = await localServer(t, (socket) => sockets.push(socket));
  return { port: server.port, next: () => eventually(() => sockets.shift(), { what: 'a connection' }) };
}

test('half-close passes a tunnel both ways, behind all bytes', async (t) => {
  const { next, port } = await acceptor(t);
  const scene = new EgressScene(t, { routes: { 'one.test:443': port } });
  const guest = scene.open();
  const question = randomBytes(700_000);
  // The first bytes come along with the request.
  guest.end(Buffer.concat([Buffer.from(CONNECT), question]));
  const socket = await next();
  t.is(sha256(await readToEnd(socket)), sha256(question));
  t.is(scene.streams[0]?.heldBytes, 0);
  const answer = randomBytes(900_000);
  socket.end(answer);
  const told = await readAll(guest);
  t.is(told.toString('latin1', 0, ESTABLISHED.length), ESTABLISHED);
  t.is(sha256(told.subarray(ESTABLISHED.length)), sha256(answer));
  await eventually(() => scene.closed.length === 1);
  t.deepEqual(scene.closed, [null]);
  t.like(scene.left[0]?.facts, { uploadedBytes: 700_000, downloadedBytes: 900_000, code: null, port: 443 });
  t.is(scene.target.openCount, 0);
});

test('a destination that ends first may still be sent to', async (t) => {
  const { next, port } = await acceptor(t);
  const scene = new EgressScene(t, { routes: { 'one.test:443': port } });
  const guest = scene.open();
  guest.write(CONNECT);
  const socket = await next();
  socket.end('bye');
  await readUntil(guest, 'bye');
  guest.end('more');
  t.is((await readToEnd(socket)).toString(), 'more');
});

test('a reset of a destination is a reset of the tunnel, and the other way round', async (t) => {
  const { next, port } = await acceptor(t);
  const scene = new EgressScene(t, { routes: { 'one.test:443': port } });
  const [one, two] = [scene.open(), scene.open()];
  one.write(CONNECT);
  const first = await next();
  await readUntil(one, '\r\n\r\n');
  const failed = t.throwsAsync(readAll(one), { code: 'local-error' });
  first.resetAndDestroy();
  await failed;
  two.write(CONNECT);
  const second = await next();
  await readUntil(two, '\r\n\r\n');
  const reset = failureOf(second);
  two.destroy();
  t.is((await reset).code, 'ECONNRESET');
  await eventually(() => scene.left.length === 2);
  t.deepEqual(
    scene.left.map(({ facts }) => facts.code),
    ['local-error', 'cancelled'],
  );
});

test('what a proxy behind the egress has handed on along with its answer comes first', async (t) => {
  const { next, port } = await acceptor(t);
  const scene = new EgressScene(t, {
    routes: { 'one.test:443': port },
    onDialled: (socket) => socket.unshift(Buffer.from('220 hello\r\n')),
  });
  const guest = scene.open();
  guest.write(CONNECT);
  const socket = await next();
  socket.end('and more');
  guest.end();
  t.is((await readAll(guest)).toString(), `${ESTABLISHED}220 hello\r\nand more`);
});

/** Refusals of a destination: what the guest is told, word for word. */
for (const [reason, first] of Object.entries({
  denied: '403 Not Allowed By vproxy',
  'not-found': '502 Name Not Found',
  unreachable: '502 Unreachable',
  refused: '502 Connection Refused',
  upstream: '502 Upstream Proxy Failed',
  timeout: '504 Timed Out',
} as const)) {
  test(`a CONNECT that is ${reason} is answered in one line, and so is its log`, async (t) => {
    const route = reason as 'denied' | 'not-found' | 'unreachable' | 'refused' | 'upstream' | 'timeout';
    const scene = new EgressScene(t, { routes: { 'one.test:443': route } });
    const line =
      route === 'denied' ? 'one.test:443 is not allowed by egress "internet" on the host' : `one.test:443: ${route}`;
    const told = await scene.say(`${CONNECT}hello`, { isEnding: false });
    t.is(
      told,
      `HTTP/1.1 ${first}\r\nContent-Type: text/plain\r\nContent-Length: ${line.length + 9}\r\n` +
        `Cache-Control: no-store\r\nConnection: close\r\n\r\nvproxy: ${line}\n`,
    );
    const [refused] = scene.refused;
    const why = route === 'denied' ? ': no entry allows it' : '';
    t.is(refused?.message, `stream ${scene.streams[0]?.id}: ${line}${why} (${route})`);
    t.like(refused?.facts, { egress: 'internet', destination: 'one.test:443', reason: route, rule: null });
  });
}

// ---- a successor ----------------------------------------------------------------------------------------------

/** A forward of an egress that lets a server be reached, and its successor; stream 1 is open. */
async function handOverScene(t: ExecutionContext, options = {}) {
  const { next: connection, port } = await acceptor(t);
  const rules = { allow: [parseEgressEntry(`127.0.0.1:${port}`)], deny: [], upstream: null };
  const egress = (name: string) => (name === 'x' ? rules : null);
  const scene = await IncomingScene.start(t, 'egress:', { egress, ...options });
  scene.peer.sendOpen(1, 'x');
  const connect = Buffer.from(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
  const { forward, peer } = scene;
  const told = (what: string | ((told: string) => boolean)) =>
    eventually(() => (typeof what === 'string' ? scene.told === what : what(scene.told)), { intervalMs: 2 });
  return { scene, forward, peer, connection, port, connect, told };
}

test('a tunnel goes on in a successor, and is logged there with all that passed', async (t) => {
  const { scene, peer, connection, port, connect, told } = await handOverScene(t);
  scene.sendData(1, connect);
  const socket = await connection();
  await told(ESTABLISHED);
  const pattern = patternFrom(0, 8 * MIB);
  scene.sendData(1, pattern);
  await scene.handOver();
  t.false(scene.eventTypes.includes('egress'));
  await scene.next.goOn();
  peer.send(FRAME_TYPE.FIN, 1);
  t.is(sha256(await readToEnd(socket)), sha256(pattern));
  socket.end('the answer');
  await told(`${ESTABLISHED}the answer`);
  await eventually(() => scene.next.openCount === 0);
  t.deepEqual(scene.eventTypes, ['stream-opened', 'egress', 'stream-closed']);
  t.like(scene.events[1]?.fields, {
    ...{ forward: 'f1', service: 'x', stream: 1, egress: 'x', host: '127.0.0.1', port },
    ...{ address: `127.0.0.1:${port}`, rule: `allow "127.0.0.1:${port}"` },
    ...{ uploadedBytes: 8 * MIB, downloadedBytes: 10, code: null },
  });
  t.regex(
    scene.events[1]?.message ?? '',
    /^stream 1: 127\.0\.0\.1:\d+ at 127\.0\.0\.1:\d+, by allow "127\.0\.0\.1:\d+", has ended: 8388608 bytes up, 10 down$/,
  );
});

test('nothing is read of a destination before the answer has been sent', async (t) => {
  // Refusals use up all but ten bytes of the credit: their length goes by that of the name.
  const { scene, peer, connection, connect, told } = await handOverScene(t, { streamCredit: 1024 });
  const refuse = async (nameLength: number): Promise<number> => {
    const [name, before] = [`${'aa.'.repeat(80).slice(0, nameLength - 1)}a`, scene.told.length];
    scene.sendData(1, Buffer.from(`GET http://${name}/ HTTP/1.1\r\nHost: ${name}\r\n\r\n`));
    await told((text) => text.endsWith('on the host\n') && text.length > before);
    return scene.told.length - before;
  };
  const withoutName = (await refuse(80)) - 80;
  const left = 1014 - scene.told.length - 2 * withoutName;
  await refuse(Math.floor(left / 2));
  await refuse(Math.ceil(left / 2));
  const refused = scene.told;
  t.is(refused.length, 1014);
  scene.sendData(1, connect);
  const socket = await connection();
  socket.end('220 hello');
  await told(`${refused}${ESTABLISHED.slice(0, 10)}`);
  // Turns in which what the destination said would be read.
  for (let turn = 0; turn < 20; turn += 1) await setImmediate();
  peer.sendCredit(1, 4000);
  await told(`${refused}${ESTABLISHED}220 hello`);
  t.pass();
});

test('a conversation that is no tunnel is an obstacle, until it is one', async (t) => {
  const { scene, forward, connection, connect, told } = await handOverScene(t);
  scene.sendData(1, connect.subarray(0, 20));
  t.deepEqual(forward.obstacles(), ['stream 1 to egress: (x), which is not a tunnel']);
  const capture = () => forward.capture(scene.here.keep, () => 0);
  t.throws(capture, { code: 'upgrade-failed' });
  scene.sendData(1, connect.subarray(20));
  await connection();
  await told(ESTABLISHED);
  t.deepEqual(forward.obstacles(), []);
});

test('a connection that waits for a further request is no obstacle, until one comes', async (t) => {
  const { scene, forward, connection, port, told } = await handOverScene(t);
  scene.sendData(1, Buffer.from(`GET http://127.0.0.1:${port}/ HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`));
  const socket = await connection();
  t.is(forward.obstacles().length, 1);
  socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  await told((text) => text.endsWith('ok'));
  await eventually(() => forward.obstacles().length === 0, { intervalMs: 2 });
  scene.sendData(1, Buffer.from('G'));
  await eventually(() => forward.obstacles().length === 1, { intervalMs: 2 });
});

test('an egress without rules refuses everything, and says so to its log', async (t) => {
  const { scene, connect, port, told } = await handOverScene(t, { egress: () => null });
  scene.sendData(1, connect);
  const line = `127.0.0.1:${port} is not allowed by egress "x" on the host`;
  await told((text) => text.endsWith(`\r\n\r\nvproxy: ${line}\n`));
  const refused = scene.events.find(({ event }) => event === 'egress-refused');
  t.is(refused?.level, 'warn');
  t.is(refused?.message, `stream 1: ${line}: there is no egress "x" here (denied)`);
});

for (const endsInTime of [true, false]) {
  test(`a guest that was refused and ${endsInTime ? 'ends in time is left' : 'does not end is reset after 10 s'}, and is no obstacle meanwhile`, async (t) => {
    const { scene, forward, peer, told } = await handOverScene(t);
    scene.sendData(1, Buffer.from('???'));
    await told((text) => text.startsWith('HTTP/1.1 400 Bad Request'));
    t.deepEqual([forward.obstacles(), forward.openCount], [[], 1]);
    peer.clock.advance(9999);
    t.is(forward.openCount, 1);
    if (endsInTime) peer.send(FRAME_TYPE.FIN, 1);
    peer.clock.advance(1);
    await eventually(() => forward.openCount === 0, { intervalMs: 1 });
    t.deepEqual(peer.session.streams.list(), []);
    scene.pump();
    t.is(scene.texts.includes('RESET 1'), !endsInTime);
  });
}

/** Tunnels of an egress: bytes, ends and resets both ways, what is logged, and what a successor gets. */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../../lib/codec/header.js';
import type { LogEvent } from '../../../lib/events.js';
import { parseEgressEntry } from '../../../lib/forward/egress/rules.js';
import { IncomingForward } from '../../../lib/forward/incoming.js';
import { ServiceRegistry } from '../../../lib/forward/service-registry.js';
import { formatForwardSpec, parseForwardSpec } from '../../../lib/forward/spec.js';
import type { SessionStream } from '../../../lib/session/stream.js';
import { ChangeHere } from '../../helpers/change-here.js';
import { EgressScene, readAll, readUntil } from '../../helpers/egress.js';
import { sha256 } from '../../helpers/files.js';
import { FramePeer } from '../../helpers/frame-peer.js';
import { patternFrom } from '../../helpers/process-change.js';
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

test('an egress is named as a service is, or not at all, and is nothing to listen on', (t) => {
  const named = parseForwardSpec('incoming', 'web:egress:internet');
  t.deepEqual(named.endpoint, { kind: 'egress', name: 'internet' });
  const unnamed = parseForwardSpec('incoming', 'internet:egress:');
  t.deepEqual(unnamed.endpoint, { kind: 'egress', name: '' });
  t.is(formatForwardSpec(named), 'web:egress:internet');
  t.is(formatForwardSpec(unnamed), 'internet:egress:');
  t.throws(() => parseForwardSpec('incoming', 'x:egress:No Name'), { code: 'bad-argument', message: /spelled as/ });
  t.throws(() => parseForwardSpec('outgoing', 'x:egress:y'), { code: 'bad-argument', message: /nothing to listen on/ });
});

test('half-close passes a tunnel both ways, behind all bytes', async (t) => {
  const { next, port } = await acceptor(t);
  const scene = new EgressScene(t, { routes: { 'one.test:443': port } });
  const guest = scene.open();
  const question = randomBytes(700_000);
  guest.write(CONNECT);
  guest.end(question);
  const socket = await next();
  t.is(sha256(await readToEnd(socket)), sha256(question));
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

test('what comes along with the request, and its end, go to the destination, and credit comes out even', async (t) => {
  const { next, port } = await acceptor(t);
  const scene = new EgressScene(t, { routes: { 'one.test:443': port } });
  const guest = scene.open();
  guest.end(`${CONNECT}hello`);
  const socket = await next();
  t.is((await readToEnd(socket)).toString(), 'hello');
  t.is(scene.streams[0]?.heldBytes, 0);
  socket.end();
  t.is((await readAll(guest)).toString(), ESTABLISHED);
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

const MIB = 2 ** 20;

/** A forward of an egress with its rules, and its successor, whose peer is a spec. */
async function handOverScene(t: ExecutionContext, { streamCredit = 64 * MIB } = {}) {
  const { next: connection, port } = await acceptor(t);
  const change = await ChangeHere.prepare();
  const room = { streamCredit: 64 * MIB, inFlight: 64 * MIB };
  const peer = FramePeer.established({ limits: room, peerLimits: { ...room, streamCredit } });
  const events: LogEvent[] = [];
  const streams: SessionStream[] = [];
  const [registry, nextRegistry] = [new ServiceRegistry(), new ServiceRegistry()];
  const log = (event: LogEvent): void => void events.push(event);
  const oldLog = (event: LogEvent): void => {
    if (!change.isOver) events.push(event);
  };
  const rules = { allow: [parseEgressEntry(`127.0.0.1:${port}`)], deny: [], upstream: null };
  const common = {
    id: 'f1',
    clock: peer.clock,
    maxStreams: 10,
    egress: (name: string) => (name === 'x' ? rules : null),
  };
  const spec = parseForwardSpec('incoming', 'x:egress:');
  const forward = new IncomingForward(spec, { ...common, registry, log: oldLog });
  t.teardown(() => forward.stop());
  peer.onStream = (stream) => {
    streams.push(stream);
    registry.serve(change.forOld(stream), peer.session);
  };
  await forward.start();
  const received: Buffer[] = [];
  const pump = (): string => {
    peer.pump();
    for (const { payload, type } of peer.log.take()) if (type === FRAME_TYPE.DATA) received.push(Buffer.from(payload));
    return Buffer.concat(received).toString('latin1');
  };
  const handOver = (): IncomingForward => {
    const indexOf = (stream: SessionStream): number => streams.indexOf(change.targetOf(stream) as SessionStream);
    const state = change.end(forward.capture(change.keep, indexOf));
    const predecessor = { state, take: change.take, streams };
    const next = new IncomingForward(spec, { ...common, registry: nextRegistry, log }, predecessor);
    t.teardown(() => next.stop());
    return next;
  };
  return { connection, events, forward, handOver, peer, port, pump };
}

test('a tunnel goes on in a successor, and is logged there with all that passed', async (t) => {
  const { connection, events, forward, handOver, peer, port, pump } = await handOverScene(t);
  peer.sendOpen(1, 'x');
  const connect = `CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`;
  peer.sendData(1, Buffer.from(connect));
  const socket = await connection();
  await eventually(() => pump() === ESTABLISHED, { intervalMs: 2, what: 'the answer' });
  const pattern = patternFrom(0, 8 * MIB);
  for (let at = 0; at < pattern.length; at += 65_536) peer.sendData(1, pattern.subarray(at, at + 65_536));
  await eventually(() => forward.obstacles().length === 0, { intervalMs: 1 });
  const next = handOver();
  t.false(events.some(({ event }) => event === 'egress'));
  await next.goOn();
  peer.send(FRAME_TYPE.FIN, 1);
  t.is(sha256(await readToEnd(socket)), sha256(pattern));
  socket.end('the answer');
  await eventually(() => pump() === `${ESTABLISHED}the answer`, { intervalMs: 2 });
  await eventually(() => next.openCount === 0);
  t.deepEqual(
    events.map(({ event }) => event),
    ['stream-opened', 'egress', 'stream-closed'],
  );
  t.like(events[1]?.fields, {
    forward: 'f1',
    service: 'x',
    stream: 1,
    egress: 'x',
    host: '127.0.0.1',
    port,
    address: `127.0.0.1:${port}`,
    rule: `allow "127.0.0.1:${port}"`,
    uploadedBytes: 8 * MIB,
    downloadedBytes: 10,
    code: null,
  });
  t.regex(
    events[1]?.message ?? '',
    /^stream 1: 127\.0\.0\.1:\d+ at 127\.0\.0\.1:\d+, by allow "127\.0\.0\.1:\d+", has ended: 8388608 bytes up, 10 down$/,
  );
});

test('nothing is read of a destination before the answer has been sent', async (t) => {
  // Refusals use up all but ten bytes of the credit: their length goes by that of the name.
  const { connection, peer, port, pump } = await handOverScene(t, { streamCredit: 1024 });
  peer.sendOpen(1, 'x');
  const refuse = async (nameLength: number): Promise<number> => {
    const [name, before] = [`${'aa.'.repeat(80).slice(0, nameLength - 1)}a`, pump().length];
    peer.sendData(1, Buffer.from(`GET http://${name}/ HTTP/1.1\r\nHost: ${name}\r\n\r\n`));
    await eventually(() => pump().endsWith('on the host\n') && pump().length > before, { intervalMs: 2 });
    return pump().length - before;
  };
  const withoutName = (await refuse(80)) - 80;
  const left = 1014 - pump().length - 2 * withoutName;
  await refuse(Math.floor(left / 2));
  await refuse(Math.ceil(left / 2));
  const refused = pump();
  t.is(refused.length, 1014);
  peer.sendData(1, Buffer.from(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`));
  const socket = await connection();
  socket.end('220 hello');
  await eventually(() => pump() === `${refused}${ESTABLISHED.slice(0, 10)}`, { intervalMs: 2 });
  // Turns in which what the destination said would be read.
  for (let turn = 0; turn < 20; turn += 1) await setImmediate();
  peer.sendCredit(1, 4000);
  await eventually(() => pump() === `${refused}${ESTABLISHED}220 hello`, { intervalMs: 2, what: 'all of it' });
});

test('a conversation that is no tunnel is an obstacle, until it is one', async (t) => {
  const { connection, forward, peer, port, pump } = await handOverScene(t);
  peer.sendOpen(1, 'x');
  peer.sendData(1, Buffer.from(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\n`));
  t.deepEqual(forward.obstacles(), ['stream 1 to egress: (x), which is not a tunnel']);
  t.throws(
    () =>
      forward.capture(
        () => 0,
        () => 0,
      ),
    { code: 'upgrade-failed' },
  );
  peer.sendData(1, Buffer.from(`Host: 127.0.0.1:${port}\r\n\r\n`));
  await connection();
  await eventually(() => pump() === ESTABLISHED, { intervalMs: 2 });
  t.deepEqual(forward.obstacles(), []);
});

test('a connection that waits for a further request is no obstacle, until one comes', async (t) => {
  const { connection, forward, peer, port, pump } = await handOverScene(t);
  const request = `GET http://127.0.0.1:${port}/ HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`;
  peer.sendOpen(1, 'x');
  peer.sendData(1, Buffer.from(request));
  const socket = await connection();
  t.is(forward.obstacles().length, 1);
  socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  await eventually(() => pump().endsWith('ok'), { intervalMs: 2 });
  await eventually(() => forward.obstacles().length === 0, { intervalMs: 2 });
  peer.sendData(1, Buffer.from('G'));
  await eventually(() => forward.obstacles().length === 1, { intervalMs: 2 });
});

test('an egress without rules refuses everything, and says so to its log', async (t) => {
  const { events, peer, pump, port } = await handOverScene(t);
  const registry = new ServiceRegistry();
  const log = (event: LogEvent): void => void events.push(event);
  const spec = parseForwardSpec('incoming', 'y:egress:none');
  const forward = new IncomingForward(spec, { clock: peer.clock, maxStreams: 1, registry, log });
  t.teardown(() => forward.stop());
  await forward.start();
  peer.onStream = (stream) => registry.serve(stream, peer.session);
  peer.sendOpen(1, 'y');
  peer.sendData(1, Buffer.from(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`));
  const line = `127.0.0.1:${port} is not allowed by egress "none" on the host`;
  await eventually(() => pump().endsWith(`\r\n\r\nvproxy: ${line}\n`), { intervalMs: 2 });
  const refused = events.find(({ event }) => event === 'egress-refused');
  t.is(refused?.level, 'warn');
  t.is(refused?.message, `stream 1: ${line}: there is no egress "none" here (denied)`);
});

for (const endsInTime of [true, false]) {
  test(`a guest that was refused and ${endsInTime ? 'ends in time is left' : 'does not end is reset after 10 s'}, and is no obstacle meanwhile`, async (t) => {
    const { forward, peer, pump } = await handOverScene(t);
    peer.sendOpen(1, 'x');
    peer.sendData(1, Buffer.from('???'));
    await eventually(() => pump().startsWith('HTTP/1.1 400 Bad Request'), { intervalMs: 1 });
    t.deepEqual([forward.obstacles(), forward.openCount], [[], 1]);
    peer.clock.advance(9999);
    t.is(forward.openCount, 1);
    if (endsInTime) peer.send(FRAME_TYPE.FIN, 1);
    peer.clock.advance(1);
    await eventually(() => forward.openCount === 0, { intervalMs: 1 });
    t.deepEqual(peer.session.streams.list(), []);
    peer.pump();
    t.is(
      peer.log.take().some(({ type }) => type === FRAME_TYPE.RESET),
      !endsInTime,
    );
  });
}

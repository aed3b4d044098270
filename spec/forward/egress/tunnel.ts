/** Tunnels of an egress: bytes, EOF and resets in both directions, the log, and the hand-over. */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../../lib/codec/header.js';
import { ANSWERS } from '../../../lib/forward/egress/refusal.js';
import type { SessionStream } from '../../../lib/session/stream.js';
import { patternFrom } from '../../helpers/change-here.js';
import { rulesOf } from '../../helpers/dns.js';
import { EgressScene, type EgressSceneOptions, readAll, readUntil, sceneTo } from '../../helpers/egress.js';
import { sha256 } from '../../helpers/files.js';
import { failureOf, localServer, readToEnd } from '../../helpers/proxies.js';
import { eventually } from '../../helpers/time.js';
import { IncomingScene, MIB } from '../forward-scene.js';

const CONNECT = 'CONNECT one.test:443 HTTP/1.1\r\nHost: one.test:443\r\n\r\n';
const ESTABLISHED = 'HTTP/1.1 200 Connection Established\r\n\r\n';

/** Connections to a server in the test, in order. */
function acceptor() {
  const sockets: net.Socket[] = [];
  const serve = (socket: net.Socket) => sockets.push(socket);
  return { serve, next: () => eventually(() => sockets.shift(), { what: 'a connection' }) };
}

async function tunnels(t: ExecutionContext, options: EgressSceneOptions = {}) {
  const { serve, next } = acceptor();
  const scene = await sceneTo(t, serve, { places: ['one.test:443'], ...options });
  /** A program that asks for a tunnel, and the connection to its destination. */
  const open = async (words: Buffer | string = '') => {
    const guest = scene.open();
    // The first bytes arrive together with the request.
    guest.write(Buffer.concat([Buffer.from(CONNECT), Buffer.from(words)]));
    const socket = await next();
    t.is(await readUntil(guest, '\r\n\r\n'), ESTABLISHED);
    return { guest, socket };
  };
  return { scene, open };
}

test('half-close passes through a tunnel in both directions, after all bytes, whichever side ends first', async (t) => {
  const { scene, open } = await tunnels(t);
  const question = randomBytes(700_000);
  const answer = randomBytes(900_000);
  for (const isGuestFirst of [true, false]) {
    const { guest, socket } = await open(question);
    const [asked, told] = [readToEnd(socket), readAll(guest)];
    const ends = [() => guest.end(), () => socket.end(answer)];
    const ended = [asked, told];
    for (const index of isGuestFirst ? [0, 1] : [1, 0]) {
      ends[index]?.();
      await ended[index];
    }
    t.deepEqual([sha256(await asked), sha256(await told)], [sha256(question), sha256(answer)]);
    t.is(scene.streams.at(-1)?.unreadBytes, 0);
  }
  await eventually(() => scene.closed.length === 2);
  t.deepEqual(scene.closed, [null, null]);
  for (const { facts } of scene.left)
    t.like(facts, { uploadedBytes: 700_000, downloadedBytes: 900_000, code: null, port: 443 });
  t.is(scene.target.openCount, 0);
});

test('a reset of a destination is a reset of the tunnel, and vice versa', async (t) => {
  const { scene, open } = await tunnels(t);
  const [one, two] = [await open(), await open()];
  const failed = t.throwsAsync(readAll(one.guest), { code: 'local-error' });
  one.socket.resetAndDestroy();
  await failed;
  const reset = failureOf(two.socket);
  two.guest.destroy();
  t.is((await reset).code, 'ECONNRESET');
  await eventually(() => scene.left.length === 2);
  const codes = scene.left.map(({ facts }) => facts.code);
  t.deepEqual(codes, ['local-error', 'cancelled']);
});

test('bytes that an upstream proxy sent together with its answer come first', async (t) => {
  const { serve, next } = acceptor();
  const onDialled = (socket: net.Socket): void => socket.unshift(Buffer.from('220 hello\r\n'));
  const scene = await sceneTo(t, serve, { places: ['one.test:443'], onDialled });
  const told = scene.say(CONNECT);
  (await next()).end('and more');
  t.is(await told, `${ESTABLISHED}220 hello\r\nand more`);
});

test('a refused CONNECT is answered and logged in one line each, with the reason', async (t) => {
  for (const reason of ['denied', 'not-found', 'unreachable', 'refused', 'upstream', 'timeout'] as const) {
    const scene = new EgressScene(t, { routes: { 'one.test:443': reason } });
    const isDenied = reason === 'denied';
    const line = isDenied ? 'one.test:443 is not allowed by egress "internet" on the host' : `one.test:443: ${reason}`;
    const { error, status, phrase } = ANSWERS[reason];
    t.is(
      await scene.say(`${CONNECT}hello`, { isEnding: false }),
      `HTTP/1.1 ${status} ${phrase}\r\nContent-Type: text/plain\r\nContent-Length: ${line.length + 9}\r\n` +
        `Proxy-Status: vproxy; error=${error}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\nvproxy: ${line}\n`,
    );
    const [refused] = scene.refused;
    const told = `stream ${scene.streams[0]?.id}: ${line}${isDenied ? ': no entry allows it' : ''} (${reason})`;
    t.is(refused?.message, told);
    t.like(refused?.facts, { egress: 'internet', destination: 'one.test:443', reason, rule: null });
  }
});

// ---- a successor ----------------------------------------------------------------------------------------------

/** A forward of an egress that allows a server, and its successor; stream 1 is open. */
async function handOverScene(t: ExecutionContext, options = {}) {
  const { serve, next: connection } = acceptor();
  const { port } = await localServer(t, serve);
  const configured = rulesOf([`127.0.0.1:${port}`], ['*:80']);
  // As if it had been added at run time: only such an entry goes alone.
  const rules = { ...configured, allow: configured.allow.map((entry) => ({ ...entry, isAdded: true })) };
  const egress = (name: string) => (name === 'x' ? rules : null);
  const scene = await IncomingScene.start(t, 'egress:', { egress, ...options });
  scene.peer.sendOpen(1, 'x');
  const connect = Buffer.from(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
  const { forward, peer } = scene;
  const told = (what: string | ((told: string) => boolean)) =>
    eventually(() => (typeof what === 'string' ? scene.told === what : what(scene.told)), { intervalMs: 2 });
  return { scene, forward, peer, connection, port, connect, told };
}

test('a stream that waits for a successor is counted once', async (t) => {
  const { scene, forward, peer } = await handOverScene(t);
  forward.letWait(false);
  peer.sendOpen(3, 'x');
  await scene.seen('ACCEPT 1');
  peer.send(FRAME_TYPE.RESET, 1, { code: 'cancelled', message: 'no more' });
  scene.pump();
  t.is(forward.streamCount, 2);
  t.is((await scene.handOver()).streamCount, 1);
  scene.nextRegistry.serve(scene.streams[1] as SessionStream, peer.session);
  t.is(scene.next.streamCount, 2);
  t.false(scene.texts.includes('ACCEPT 3'));
});

test('a tunnel continues in a successor, and is logged there with all bytes', async (t) => {
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
  t.deepEqual(scene.eventTypes, ['stream-opened', 'egress-opened', 'egress', 'stream-closed']);
  t.like(scene.events[2]?.fields, {
    ...{ forward: 'f1', service: 'x', stream: 1, egress: 'x', host: '127.0.0.1', port },
    ...{ address: `127.0.0.1:${port}`, rule: `allow "127.0.0.1:${port}"` },
    ...{ uploadedBytes: 8 * MIB, downloadedBytes: 10, code: null },
  });
  const course =
    /^stream 1: 127\.0\.0\.1:\d+ at 127\.0\.0\.1:\d+, by allow "127\.0\.0\.1:\d+", closed: 8388608 bytes up, 10 down$/;
  t.regex(scene.events[2]?.message ?? '', course);
});

test('a tunnel is reset in a successor, too, when its rule goes', async (t) => {
  const { scene, connection, port, connect, told } = await handOverScene(t);
  scene.sendData(1, connect);
  const failed = failureOf(await connection());
  await told(ESTABLISHED);
  await scene.handOver();
  await scene.next.goOn();
  t.is(scene.next.revoke('y', null), 0);
  t.is(scene.next.revoke('x', new Set(['allow "127.0.0.0/8:*"'])), 0);
  t.is(scene.next.revoke('x', new Set([`allow "127.0.0.1:${port}"`])), 1);
  t.is((await failed).code, 'ECONNRESET');
  await eventually(() => scene.next.openCount === 0);
  scene.pump();
  t.true(scene.texts.includes('RESET 1'));
  t.like(scene.events.find(({ event }) => event === 'egress')?.fields, { code: 'denied' });
});

test('a destination is refused if its rule goes while it is dialled', async (t) => {
  const { serve, next } = acceptor();
  const { port } = await localServer(t, serve);
  const allow = [['one.test:444'], ['one.test:443']];
  const scene = new EgressScene(t, {
    routes: { 'one.test:443': port },
    onDialled: () => (scene.rules = rulesOf(allow.shift() ?? [])),
  });
  t.regex(
    await scene.say(CONNECT, { isEnding: false }),
    /^HTTP\/1\.1 403 .*one\.test:443: egress "internet" no longer allows it\n$/s,
  );
  t.like(scene.refused[0]?.facts, { reason: 'denied', destination: 'one.test:443' });
  await readToEnd(await next());
  const stream = scene.open();
  stream.write(CONNECT);
  await readUntil(stream, ESTABLISHED);
});

test('a connection goes with the added entry that took the place of a configured one while it was dialled', async (t) => {
  const { serve, next } = acceptor();
  const { port } = await localServer(t, serve);
  const configured = rulesOf(['one.test:443']);
  const added = { ...configured, allow: configured.allow.map((entry) => ({ ...entry, isAdded: true })) };
  const rule = new Set(['allow "one.test:443"']);
  for (const [before, after, count] of [
    [configured, added, 1],
    [added, configured, 0],
  ] as const) {
    const scene = new EgressScene(t, {
      routes: { 'one.test:443': port },
      onDialled: () => (scene.rules = after),
      isAdded: before === added,
    });
    scene.rules = before;
    const stream = scene.open();
    stream.write(CONNECT);
    await readUntil(stream, ESTABLISHED);
    await next();
    t.is(scene.target.revoke('internet', rule), count);
  }
});

test('nothing is read from a destination before the answer has been sent', async (t) => {
  // Refusals, as long as their names, use up all but ten bytes of the credit.
  const { scene, peer, connection, connect, told } = await handOverScene(t, { streamCredit: 1024 });
  const refuse = async (nameLength: number): Promise<number> => {
    const [name, before] = [`${'aa.'.repeat(80).slice(0, nameLength - 1)}a`, scene.told.length];
    scene.sendData(1, Buffer.from(`GET http://${name}/ HTTP/1.1\r\nHost: ${name}\r\n\r\n`));
    await told((text) => text.endsWith('on the host: deny "*:80"\n') && text.length > before);
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
  // Turns in which the destination's bytes would be read.
  for (let turn = 0; turn < 20; turn += 1) await setImmediate();
  peer.sendCredit(1, 4000);
  await told(`${refused}${ESTABLISHED}220 hello`);
  t.pass();
});

test('a conversation is an obstacle until it is a tunnel', async (t) => {
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

test('a connection that waits for a further request is not an obstacle until one comes', async (t) => {
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

for (const endsInTime of [true, false]) {
  test(`a refused guest that ${endsInTime ? 'ends in time is left alone' : 'does not end is reset after 10 s'}, and is not an obstacle meanwhile`, async (t) => {
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

/** Limits on what a guest can make an egress hold, wait for, and do: heads, time, streams, and stuck readers. */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { EgressScene, get, readAll, readUntil, sceneTo, sceneToOrigin } from '../../helpers/egress.js';
import { echo } from '../../helpers/proxies.js';
import { eventually } from '../../helpers/time.js';

const GET = 'GET http://one.test/ HTTP/1.1\r\nHost: one.test\r\n';
const CONNECT = 'CONNECT one.test:80 HTTP/1.1\r\nHost: one.test:80\r\n\r\n';
const TIMED_OUT = 'vproxy: no complete request within 10 s\n';

const ofLength = (bytes: number): string => `${GET}X: ${'x'.repeat(bytes - `${GET}X: \r\n\r\n`.length)}\r\n\r\n`;
const ofFields = (count: number): string => `${GET}${'X: 1\r\n'.repeat(count - 1)}\r\n`;

/** Heads within a limit, heads beyond it, and how these are refused. */
const HEADS: Readonly<Record<string, readonly [read: readonly string[], refused: string, answer: RegExp]>> = {
  'no more than 16,384 bytes': [
    [ofLength(16_384)],
    ofLength(16_385),
    /^HTTP\/1\.1 431 Request Header Fields Too Large\r\n.*\r\n\r\nvproxy: the head exceeds 16384 bytes\n$/s,
  ],
  'no more than that without an end': [
    [],
    `${GET}X: ${'x'.repeat(200_000)}`,
    /^HTTP\/1\.1 431 .*exceeds 16384 bytes\n$/s,
  ],
  'no more than 1000 fields': [
    [ofFields(1000)],
    ofFields(1001),
    /^HTTP\/1\.1 431 .*too many header fields \(max 1000\)\n$/s,
  ],
  'no more than 256 elements in Connection': [
    [','.repeat(255), 'x'.repeat(999)].map((value) => `${GET}Connection:${value}\r\n\r\n`),
    `${GET}Connection:${','.repeat(256)}\r\n\r\n`,
    /^HTTP\/1\.1 400 .*too many elements in a header field \(max 256\)\n$/s,
  ],
};

for (const [name, [read, refused, answer]] of Object.entries(HEADS)) {
  test(`a head has ${name}`, async (t) => {
    const { scene } = await sceneToOrigin(t);
    for (const head of read) t.true((await scene.say(head)).endsWith('ok'));
    t.regex(await scene.say(refused, { isEnding: false }), answer);
    t.is(scene.dialled.length, read.length);
  });
}

/** Waits until the egress has received and read N bytes. */
async function hasComeTo({ streams }: EgressScene, byteCount: number): Promise<void> {
  const received = (): number => streams.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);
  await eventually(() => received() === byteCount, { intervalMs: 1, what: `${byteCount} bytes` });
  await setImmediate();
}

test('a program that sends no request, part of one, or one too slowly, has 10 seconds', async (t) => {
  const scene = new EgressScene(t);
  const [silent, half, socks, slow] = [scene.open(), scene.open(), scene.open(), scene.open()];
  const told = Promise.all([silent, half, socks, slow].map(readAll));
  half.write(GET);
  socks.write('\x05', 'latin1');
  await eventually(() => scene.target.openCount === 4);
  for (let second = 0; second < 10; second += 1) {
    t.is(scene.refused.length, 0);
    slow.write(GET.charAt(second));
    await hasComeTo(scene, GET.length + 1 + second + 1);
    scene.pair.clock.advance(1000);
  }
  const [bySocks, ...byHttp] = (await told).map(String).sort();
  t.is(bySocks, Buffer.from('\x05\xff', 'latin1').toString());
  for (const answer of byHttp)
    t.true(answer.startsWith('HTTP/1.1 408 Request Timeout\r\n') && answer.endsWith(`\r\n\r\n${TIMED_OUT}`), answer);
  t.deepEqual(
    scene.refused.map(({ facts }) => facts.reason),
    Array.from({ length: 4 }, () => 'head-timeout'),
  );
});

test('a connection without a further request is closed after a minute without an answer; the next head has 10 s again', async (t) => {
  const { scene } = await sceneToOrigin(t);
  const [idle, slow] = [scene.open(), scene.open()];
  for (const guest of [idle, slow]) {
    guest.write(get('one.test'));
    await readUntil(guest, 'ok');
  }
  slow.write('G');
  const [idleEnd, slowEnd] = [readAll(idle), readAll(slow)];
  await hasComeTo(scene, 2 * get('one.test').length + 1);
  scene.pair.clock.advance(10_000);
  t.true((await slowEnd).toString().endsWith(TIMED_OUT));
  scene.pair.clock.advance(49_999);
  t.is(scene.target.openCount, 1);
  scene.pair.clock.advance(1);
  t.is((await idleEnd).length, 0);
  await eventually(() => scene.target.openCount === 0);
});

test('a reader that does not read stops only its own download, of which a bounded part is held', async (t) => {
  const body = randomBytes(2 ** 20);
  let written = 0;
  const pour = (socket: net.Socket): void => {
    while (written < 64 * body.length) {
      written += body.length;
      if (!socket.write(body)) return void socket.once('drain', () => pour(socket));
    }
  };
  const { origin } = await sceneToOrigin(t);
  const dialled: net.Socket[] = [];
  const scene = await sceneTo(
    t,
    (socket) => {
      socket.once('data', () => {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${64 * body.length}\r\n\r\n`);
        pour(socket);
      });
    },
    { onDialled: (socket) => dialled.push(socket), routes: { 'two.test:80': origin.port } },
  );
  const stuck = scene.open();
  stuck.write(get('one.test'));
  await readUntil(stuck, 'Content-Length');
  for (let round = 0; round < 5; round += 1) {
    const before = written;
    t.true((await scene.say(get('two.test'))).endsWith('ok'));
    if (round > 0 && before === written) break;
  }
  // Bytes read from the server and not sent on the stream.
  const heldBytes = (dialled[0]?.bytesRead ?? 0) - (scene.streams[0]?.sentBytes ?? 0);
  t.true(heldBytes > 0 && heldBytes <= 131_072, `${heldBytes} bytes are held`);
  stuck.destroy();
  await eventually(() => scene.target.openCount === 0);
});

test('an origin server that does not read stops only the upload', async (t) => {
  const scene = await sceneTo(t, (socket) => socket.pause());
  const guest = scene.open();
  guest.write(`POST http://one.test/ HTTP/1.1\r\nHost: one.test\r\nContent-Length: ${2 ** 30}\r\n\r\n`);
  let taken = 0;
  const piece = Buffer.alloc(65_536);
  const push = (): void => {
    taken += piece.length;
    if (taken < 2 ** 28) guest.write(piece, push);
  };
  guest.write(piece, push);
  await eventually(() => scene.streams[0]?.receiveCreditBytes === 0, { what: 'the end of the credit' });
  const heldBytes = scene.streams[0]?.unreadBytes ?? 0;
  // The largest window of a stream.
  t.true(heldBytes <= 2 ** 25, `${heldBytes} bytes are held`);
  t.true(taken < 2 ** 26, `${taken} bytes were taken`);
  guest.destroy();
  await eventually(() => scene.target.openCount === 0);
});

test('streams beyond the limit are refused, and a place is free once one has ended', async (t) => {
  const scene = await sceneTo(t, echo, { maxStreams: 2 });
  const [tunnel, silent] = [scene.open(), scene.open()];
  tunnel.write(CONNECT);
  await readUntil(tunnel, '\r\n\r\n');
  await t.throwsAsync(scene.say(CONNECT), { code: 'too-many-streams' });
  silent.end();
  await readAll(silent);
  await eventually(() => scene.target.openCount === 1);
  t.true((await scene.say(`${CONNECT}hello`)).endsWith('\r\n\r\nhello'));
});

test('a program that goes away during the dial or after its request leaves nothing open', async (t) => {
  let go: () => void = () => undefined;
  const seen: string[] = [];
  const serve = (socket: net.Socket) =>
    socket.once('data', () => seen.push('request')).once('end', () => seen.push('end'));
  const scene = await sceneTo(t, serve, {
    beforeDialled: () =>
      new Promise((resolve) => {
        go = resolve;
      }),
  });
  const [dialling, asking] = [scene.open(), scene.open()];
  dialling.write(CONNECT);
  await eventually(() => scene.dialled.length === 1);
  dialling.destroy();
  await eventually(() => scene.streams[0]?.isOver === true);
  go();
  await eventually(() => scene.closed.length === 1);
  t.is(scene.refused.length, 0);
  asking.write(get('one.test'));
  await eventually(() => scene.dialled.length === 2);
  go();
  await eventually(() => seen.length === 1, { what: 'the request' });
  asking.destroy();
  await eventually(() => seen.length === 2 && scene.target.openCount === 0, { what: 'the end of the connection' });
  t.deepEqual(seen, ['request', 'end']);
  t.is(scene.closed.length, 2);
});

test('stopping ends conversations and tunnels', async (t) => {
  const scene = await sceneTo(t, echo);
  const guests = [scene.open(), scene.open(), scene.open()] as const;
  guests[0].write(CONNECT);
  guests[1].write(GET);
  await readUntil(guests[0], '\r\n\r\n');
  await eventually(() => scene.target.openCount === 3);
  const failures = guests.map((guest) => t.throwsAsync(readAll(guest)));
  scene.target.stop();
  await Promise.all(failures);
  await eventually(() => scene.target.openCount === 0);
  t.is(scene.closed.length, 3);
});

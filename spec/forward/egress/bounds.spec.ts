/** What a guest can make an egress hold, wait for, and do: heads, time, streams, and readers that do not read. */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { EgressScene, RecordingOrigin, readAll, readUntil } from '../../helpers/egress.js';
import { echo, localServer } from '../../helpers/proxies.js';
import { eventually } from '../../helpers/time.js';

const GET = 'GET http://one.test/ HTTP/1.1\r\nHost: one.test\r\n';
const CONNECT = 'CONNECT one.test:80 HTTP/1.1\r\nHost: one.test:80\r\n\r\n';
const TIMED_OUT = 'vproxy: no request was complete within 10 s\n';

test('a head of 16,384 bytes is read, and one of a byte more is 431', async (t) => {
  const origin = await RecordingOrigin.start(t);
  const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port } });
  const ofLength = (bytes: number): string => {
    const room = bytes - `${GET}X: \r\n\r\n`.length;
    return `${GET}X: ${'x'.repeat(room)}\r\n\r\n`;
  };
  t.is(ofLength(16_384).length, 16_384);
  t.true((await scene.say(ofLength(16_384))).endsWith('ok'));
  const answer = await scene.say(ofLength(16_385), { isEnding: false });
  t.true(answer.startsWith('HTTP/1.1 431 Request Header Fields Too Large\r\n'));
  t.true(answer.endsWith('\r\n\r\nvproxy: the head exceeds 16384 bytes\n'));
  t.is(scene.dialled.length, 1);
});

test('a head of 1000 fields is read, and one of a field more is 431', async (t) => {
  const origin = await RecordingOrigin.start(t);
  const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port } });
  // With the Host.
  t.true((await scene.say(`${GET}${'X: 1\r\n'.repeat(999)}\r\n`)).endsWith('ok'));
  const answer = await scene.say(`${GET}${'X: 1\r\n'.repeat(1000)}\r\n`, { isEnding: false });
  t.regex(answer, /^HTTP\/1\.1 431 .*the head has more than 1000 fields\n$/s);
  t.is(scene.dialled.length, 1);
});

test('a Connection of 256 elements is read, and one of an element more is 400', async (t) => {
  const origin = await RecordingOrigin.start(t);
  const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port } });
  for (const connection of [','.repeat(255), 'x'.repeat(999)])
    t.true((await scene.say(`${GET}Connection:${connection}\r\n\r\n`)).endsWith('ok'));
  t.regex(
    await scene.say(`${GET}Connection:${','.repeat(256)}\r\n\r\n`),
    /^HTTP\/1\.1 400 .*more than 256 elements\n$/s,
  );
  t.is(scene.dialled.length, 2);
});

test('a head without an end is 431 as soon as it is too long, whatever comes', async (t) => {
  const scene = new EgressScene(t);
  const answer = await scene.say(`${GET}X: ${'x'.repeat(200_000)}`, { isEnding: false });
  t.regex(answer, /^HTTP\/1\.1 431 .*the head exceeds 16384 bytes\n$/s);
});

for (const [name, words] of Object.entries({
  'says nothing': '',
  'sends a byte each second': 'GET http://one.te',
  'leaves its head without an end': GET,
  'leaves SOCKS in the middle': '\x05',
})) {
  test(`a program that ${name} is given 10 seconds`, async (t) => {
    const scene = new EgressScene(t);
    const guest = scene.open();
    const answer = readAll(guest);
    await eventually(() => scene.target.openCount === 1);
    const isSlow = name.includes('each second');
    for (let second = 0; second < 9; second += 1) {
      const said = isSlow ? (words[second] ?? '') : second === 0 ? words : '';
      if (said !== '') guest.write(said, 'latin1');
      await hasComeTo(scene, isSlow ? second + 1 : words.length);
      scene.pair.clock.advance(1000);
    }
    t.is(scene.refused.length, 0);
    scene.pair.clock.advance(1000);
    const told = (await answer).toString('latin1');
    if (words === '\x05') t.is(told, '\x05\xff');
    else t.true(told.startsWith('HTTP/1.1 408 Request Timeout\r\n') && told.endsWith(`\r\n\r\n${TIMED_OUT}`), told);
    t.like(scene.refused[0]?.facts, { reason: 'head-timeout' });
  });
}

test('a connection without a further request ends after a minute, without a word; the next head has 10 s again', async (t) => {
  const origin = await RecordingOrigin.start(t);
  const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port } });
  const idle = scene.open();
  const slow = scene.open();
  for (const guest of [idle, slow]) {
    guest.write(`${GET}\r\n`);
    await readUntil(guest, 'ok');
  }
  slow.write('G');
  const [idleEnd, slowEnd] = [readAll(idle), readAll(slow)];
  await hasComeTo(scene, 2 * `${GET}\r\n`.length + 1);
  scene.pair.clock.advance(10_000);
  t.true((await slowEnd).toString().endsWith(TIMED_OUT));
  scene.pair.clock.advance(49_999);
  t.is(scene.target.openCount, 1);
  scene.pair.clock.advance(1);
  t.is((await idleEnd).length, 0);
  await eventually(() => scene.target.openCount === 0);
});

/** Waits until the egress has got so many bytes, and has read them. */
async function hasComeTo({ streams }: EgressScene, byteCount: number): Promise<void> {
  const received = (): number => streams.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);
  await eventually(() => received() === byteCount, { intervalMs: 1, what: `${byteCount} bytes` });
  await setImmediate();
}

test('a reader that does not read stops its own download only, and holds a bounded part of it', async (t) => {
  const body = randomBytes(2 ** 20);
  let written = 0;
  const server = await localServer(t, (socket) => {
    socket.once('data', () => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${64 * body.length}\r\n\r\n`);
      const pour = (): void => {
        while (written < 64 * body.length) {
          written += body.length;
          if (!socket.write(body)) {
            socket.once('drain', pour);
            return;
          }
        }
      };
      pour();
    });
  });
  const origin = await RecordingOrigin.start(t);
  const dialled: net.Socket[] = [];
  const scene = new EgressScene(t, {
    routes: { 'one.test:80': server.port, 'two.test:80': origin.port },
    onDialled: (socket) => dialled.push(socket),
  });
  const stuck = scene.open();
  stuck.write(`${GET}\r\n`);
  await readUntil(stuck, 'Content-Length');
  for (let round = 0; round < 5; round += 1) {
    const before = written;
    t.true((await scene.say(GET.replaceAll('one.test', 'two.test').concat('\r\n'))).endsWith('ok'));
    if (round > 0 && before === written) break;
  }
  // What was read of the server, and not sent on the stream.
  const heldBytes = (dialled[0]?.bytesRead ?? 0) - (scene.streams[0]?.sentBytes ?? 0);
  t.true(heldBytes > 0 && heldBytes <= 131_072, `${heldBytes} bytes are held`);
  stuck.destroy();
  await eventually(() => scene.target.openCount === 0);
});

test('an origin server that does not read stops the upload only', async (t) => {
  const server = await localServer(t, (socket) => socket.pause());
  const scene = new EgressScene(t, { routes: { 'one.test:80': server.port } });
  const guest = scene.open();
  guest.write(`POST http://one.test/ HTTP/1.1\r\nHost: one.test\r\nContent-Length: ${2 ** 30}\r\n\r\n`);
  let taken = 0;
  const piece = Buffer.alloc(65_536);
  const push = (): void => {
    if (taken > 2 ** 28) return;
    guest.write(piece, () => {
      taken += piece.length;
      push();
    });
  };
  push();
  await eventually(() => scene.streams[0]?.receiveCreditBytes === 0, { what: 'the end of the credit' });
  const heldBytes = scene.streams[0]?.heldBytes ?? 0;
  // The largest window of a stream.
  t.true(heldBytes <= 2 ** 25, `${heldBytes} bytes are held`);
  t.true(taken < 2 ** 26, `${taken} bytes were taken`);
  guest.destroy();
  await eventually(() => scene.target.openCount === 0);
});

test('more streams than may be are refused, and a place is free when one has ended', async (t) => {
  const server = await localServer(t, echo);
  const scene = new EgressScene(t, { routes: { 'one.test:80': server.port }, maxStreams: 2 });
  const [tunnel, silent] = [scene.open(), scene.open()];
  tunnel.write(CONNECT);
  await readUntil(tunnel, '\r\n\r\n');
  await t.throwsAsync(scene.say(CONNECT), { code: 'too-many-streams' });
  silent.end();
  await readAll(silent);
  await eventually(() => scene.target.openCount === 1);
  t.true((await scene.say(`${CONNECT}hello`)).endsWith('\r\n\r\nhello'));
});

test('a program that is gone while its destination is dialled leaves nothing open', async (t) => {
  const server = await localServer(t, echo);
  let go: () => void = () => undefined;
  const scene = new EgressScene(t, {
    routes: { 'one.test:80': server.port },
    beforeDialled: () =>
      new Promise((resolve) => {
        go = resolve;
      }),
  });
  const guest = scene.open();
  guest.write(CONNECT);
  await eventually(() => scene.dialled.length === 1);
  guest.destroy();
  await eventually(() => scene.streams[0]?.isOver === true);
  go();
  await eventually(() => scene.target.openCount === 0);
  t.is(scene.refused.length, 0);
});

test('stopping ends conversations and tunnels', async (t) => {
  const server = await localServer(t, echo);
  const scene = new EgressScene(t, { routes: { 'one.test:80': server.port } });
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

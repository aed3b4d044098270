import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { MAX_SERVICES } from '../../lib/session/services.js';
import { endsWith } from '../helpers/conversation.js';
import { jsonOf } from '../helpers/frame-log.js';
import { FramePeer } from '../helpers/frame-peer.js';

const { SERVICES } = FRAME_TYPE;

/** Names as long as they may be, in order. */
const longNames = (count: number): string[] =>
  Array.from({ length: count }, (_, index) => `s${index}`.padEnd(64, 'x')).sort();

/** The frames in which a side tells its services: no longer than they may be, all but the last with `more`. */
function tell(t: ExecutionContext, peer: FramePeer, ...services: Parameters<FramePeer['session']['setServices']>) {
  peer.log.take();
  peer.session.setServices(...services);
  peer.pump();
  const frames = peer.log.take();
  t.true(frames.every(({ payload }) => payload.length <= 4096));
  const lists = frames.map(jsonOf);
  t.deepEqual(
    lists.map(({ more = false }) => more),
    lists.map((_, index) => index < lists.length - 1),
  );
  t.deepEqual(
    lists.flatMap((list) => list['services'] as string[]),
    services[0],
  );
  return lists;
}

test('R-SERVICES-1: a side says what it offers first of all, also where that is nothing', (t) => {
  for (const services of [[], ['ssh', 'storage']]) {
    const peer = new FramePeer({ services });
    peer.loop.start();
    peer.establish();
    const [first] = peer.log.take();
    t.is(first?.name, 'SERVICES');
    t.deepEqual(first && jsonOf(first), { services });
  }
});

test('R-SERVICES-1: it says so again on every change, and only then', (t) => {
  const peer = FramePeer.established({ services: ['ssh'] });
  peer.session.setServices(['ssh']);
  peer.pump();
  t.deepEqual(peer.log.take(), []);
  peer.session.setServices(['web', 'ssh', 'web']);
  peer.pump();
  t.deepEqual(peer.log.take().map(jsonOf), [{ services: ['ssh', 'web'] }]);
});

test('R-SERVICES-1: a long list comes in frames of at most 4096 bytes, all but the last with more', (t) => {
  t.true(tell(t, FramePeer.established(), longNames(300)).length > 4);
});

test('R-SERVICES-1: a list replaces the one before, when it is complete', (t) => {
  const peer = FramePeer.established();
  const seen: string[][] = [];
  peer.session.on('services', (services) => seen.push([...services]));
  peer.send(SERVICES, 0, { services: ['a', 'b'] });
  peer.send(SERVICES, 0, { services: ['c'], more: true });
  t.deepEqual([...peer.session.peerServices.names], ['a', 'b']);
  peer.send(SERVICES, 0, { services: ['d'], more: false, future: 1 });
  t.deepEqual(seen, [
    ['a', 'b'],
    ['c', 'd'],
  ]);
});

test('R-SERVICES-1: the time of day stands in the last frame of a list, where a side tells it', (t) => {
  const peer = FramePeer.established({ settings: { timeOfDay: () => 1_800_000_000_000.4 } });
  const times = tell(t, peer, longNames(100)).map(({ time }) => time);
  t.deepEqual(times, [undefined, 1_800_000_000_000]);
});

test('R-SERVICES-1: by the time of day of a list a side knows how the clocks differ, and without one it does not', (t) => {
  const settings = { timeOfDay: () => 1_800_000_000_000 };
  const peer = FramePeer.established({ settings });
  peer.send(SERVICES, 0, { services: [], time: 1_799_999_990_000 });
  t.is(peer.session.peerServices.clockOffsetMs, -10_000);
  for (const time of [null, undefined]) {
    peer.send(SERVICES, 0, { services: [], time: 1 });
    peer.send(SERVICES, 0, { services: [], time });
    t.is(peer.session.peerServices.clockOffsetMs, null);
  }
  const silent = FramePeer.established();
  silent.send(SERVICES, 0, { services: [], time: 1 });
  t.is(silent.session.peerServices.clockOffsetMs, null);
});

test('R-SERVICES-1: a time that is none ends the session', (t) => {
  for (const time of ['12:00', -1, 1.5, 2 ** 53, true, {}]) {
    endsWith(t, 'protocol-error', (peer) => peer.send(SERVICES, 0, { services: [], time }));
  }
});

test('R-SERVICES-2: a list of 4096 services is taken, a longer one is a flood', (t) => {
  t.is(MAX_SERVICES, 4096);
  const send = (peer: FramePeer, count: number): void => {
    const names = Array.from({ length: count }, (_, index) => `service-${index}`);
    while (names.length > 0 && peer.endings.length === 0) {
      const services = names.splice(0, 128);
      peer.send(SERVICES, 0, { services, more: names.length > 0 });
    }
  };
  const peer = FramePeer.established();
  send(peer, 4096);
  t.is(peer.session.peerServices.names.size, 4096);
  endsWith(t, 'flood', (other) => send(other, 4097));
});

test('R-SERVICES-3: the ports that are announced stand in the last frame, and nothing is said of them where there is none to be said', (t) => {
  const peer = FramePeer.established({ services: ['ssh'] });
  for (let time = 0; time < 2; time += 1) {
    const ports = [
      { port: 3000, program: 'node' },
      { port: 5432, program: null },
    ];
    peer.session.setServices(['ssh'], ports);
  }
  peer.session.setServices(['ssh'], []);
  peer.session.setServices(['ssh'], null);
  peer.pump();
  t.deepEqual(peer.log.take().map(jsonOf), [
    { services: ['ssh'], ports: [{ port: 3000, program: 'node' }, { port: 5432 }] },
    { services: ['ssh'], ports: [] },
    { services: ['ssh'] },
  ]);
});

test('R-SERVICES-3: what the peer announces is all that it announces, each number once, and absent it is nothing', (t) => {
  const peer = FramePeer.established();
  t.is(peer.session.peerServices.ports, null);
  peer.send(SERVICES, 0, { services: [], more: true, ports: [{ port: 1 }] });
  t.is(peer.session.peerServices.ports, null, 'the last frame counts');
  const long = '\u001b[2J'.repeat(200);
  const ports = [
    { port: 65_535, program: null, future: 1 },
    { port: 3000, program: 'node' },
    { port: 3000, program: 'x' },
  ];
  peer.send(SERVICES, 0, { services: [], ports });
  t.deepEqual(peer.session.peerServices.ports, [
    { port: 65_535, program: null },
    { port: 3000, program: 'node' },
  ]);
  peer.send(SERVICES, 0, { services: [], ports: [{ port: 4000, program: long }] });
  t.is(
    peer.session.peerServices.ports?.[0]?.program,
    `${String.raw`\x1b[2J`.repeat(8)}…`,
    'cut to 32 characters, and shown as what it is',
  );
  peer.send(SERVICES, 0, { services: [], ports: null });
  t.is(peer.session.peerServices.ports, null);
  t.deepEqual(peer.endings, []);
});

test('R-SERVICES-3: what is no list of at most 64 ports is a protocol error', (t) => {
  const wrong = [0, 65_536, 3000.5, '3000', undefined].map((port) => [{ port, program: 'node' }]);
  const many = Array.from({ length: 65 }, (_, index) => ({ port: 3000 + index }));
  for (const ports of [{ port: 3000 }, '3000', [3000], [{ port: 3000, program: 7 }], many, ...wrong])
    endsWith(t, 'protocol-error', (peer) => peer.send(SERVICES, 0, { services: [], ports }));
});

test('R-SERVICES-3: in a frame with `more` ports and time mean nothing, and have their form', (t) => {
  const settings = { timeOfDay: () => 0 };
  const peer = FramePeer.established({ settings });
  peer.send(SERVICES, 0, { services: [], more: true, time: 5, ports: [{ port: 1 }] });
  peer.send(SERVICES, 0, { services: [] });
  t.is(peer.session.peerServices.ports, null);
  t.is(peer.session.peerServices.clockOffsetMs, null);
  for (const wrong of [{ ports: [1] }, { ports: 1 }, { time: -1 }])
    endsWith(t, 'protocol-error', (other) => other.send(SERVICES, 0, { services: [], more: true, ...wrong }));
});

test('R-SERVICES-3: 64 ports with the longest names fit one frame, beside whatever services there are', (t) => {
  const ports = Array.from({ length: 70 }, (_, index) => ({
    port: 65_535 - index,
    program: '"\\ \u{1f600}é'.repeat(20),
  }));
  for (const count of [0, 1, 10, 60, 61, 62, 200]) {
    const peer = FramePeer.established({ settings: { timeOfDay: () => 2 ** 53 - 1 } });
    const last = tell(t, peer, longNames(count), ports).at(-1);
    const told = last?.['ports'] as { port: number; program: string }[];
    t.is(told.length, 64);
    t.true(told.every(({ program }) => /^[ -~]{32}$/.test(program) && !/["\\]/.test(program)));
  }
});

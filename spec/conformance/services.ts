import test, { type ExecutionContext } from 'ava';
import { jsonOf } from '../../conformance/frame-log.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { FramePeer } from '../helpers/frame-peer.js';

const { SERVICES } = FRAME_TYPE;

/** Names as long as they may be, in order. */
const longNames = (count: number): string[] =>
  Array.from({ length: count }, (_, index) => `s${index}`.padEnd(64, 'x')).sort();

/** The frames in which a side announces its services: within their limit, all but the last with `more`. */
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
  const names = lists.flatMap((list) => list['services'] as string[]);
  t.deepEqual(names, services[0]);
  return lists;
}

test('R-SERVICES-1: a side announces its services first, even if it has none, and again only on every change', (t) => {
  for (const services of [[], ['ssh']]) {
    const peer = FramePeer.opening({ services });
    const seen = (): unknown[] => peer.log.take().flatMap((frame) => (frame.type === SERVICES ? [jsonOf(frame)] : []));
    peer.establish();
    t.is(peer.log.frames[0]?.type, SERVICES);
    t.deepEqual(seen(), [{ services }]);
    for (const others of [services, ['web', 'ssh', 'web']]) peer.session.setServices(others);
    peer.pump();
    t.deepEqual(seen(), [{ services: ['ssh', 'web'] }]);
  }
});

test('R-SERVICES-1: a long list comes in frames of at most 4096 bytes, all but the last with more; the time of day stands in the last', (t) => {
  t.true(tell(t, FramePeer.established(), longNames(300)).length > 4);
  const peer = FramePeer.established({ settings: { timeOfDay: () => 1_800_000_000_000.4 } });
  const times = tell(t, peer, longNames(100)).map(({ time }) => time);
  t.deepEqual(times, [undefined, 1_800_000_000_000]);
});

test('R-SERVICES-1: a complete list replaces the one before', (t) => {
  const peer = FramePeer.established();
  const seen: string[][] = [];
  peer.session.on('services', (services) => seen.push([...services]));
  peer.say('SERVICES 0 a b');
  peer.send(SERVICES, 0, { services: ['c'], more: true });
  t.deepEqual([...peer.session.peerServices.names], ['a', 'b']);
  peer.send(SERVICES, 0, { services: ['d'], more: false, future: 1 });
  t.deepEqual(seen.map(String), ['a,b', 'c,d']);
});

test('R-SERVICES-1: the time of day in a list gives the difference of the clocks; without one it is unknown', (t) => {
  const told = (timeOfDay: (() => number) | null, ...times: unknown[]): number | null => {
    const peer = FramePeer.established({ settings: { timeOfDay } });
    for (const time of times) peer.send(SERVICES, 0, { services: [], time });
    return peer.session.peerServices.clockOffsetMs;
  };
  const now = (): number => 1_800_000_000_000;
  t.is(told(now, 1_799_999_990_000), -10_000);
  t.is(told(now, 1, null), null);
  t.is(told(now, 1, undefined), null);
  t.is(told(null, 1), null);
});

test('R-SERVICES-3: announced ports are in the last frame, which has no list of ports if there is none to announce', (t) => {
  const peer = FramePeer.established({ services: ['ssh'] });
  const ports = () => [
    { port: 3000, program: 'node' },
    { port: 5432, program: null },
  ];
  for (const list of [ports(), ports(), [], null]) peer.session.setServices(['ssh'], list);
  peer.pump();
  t.deepEqual(peer.log.take().map(jsonOf), [
    { services: ['ssh'], ports: [{ port: 3000, program: 'node' }, { port: 5432 }] },
    { services: ['ssh'], ports: [] },
    { services: ['ssh'] },
  ]);
});

test('R-SERVICES-3: the last frame has all announced ports, each number once; without the field there are none', (t) => {
  const peer = FramePeer.established({ settings: { timeOfDay: () => 0 } });
  const after = (list: object): unknown => {
    peer.send(SERVICES, 0, { services: [], ...list });
    return peer.session.peerServices.ports;
  };
  const node = { port: 3000, program: 'node' };
  const last = { port: 65_535, program: null };
  t.is(after({ more: true, time: 5, ports: [{ port: 1 }] }), null);
  t.is(after({}), null);
  t.is(peer.session.peerServices.clockOffsetMs, null);
  t.deepEqual(after({ ports: [{ ...last, future: 1 }, node, { ...node, program: 'x' }] }), [last, node]);
  // Cut to 32 characters, and escaped.
  const long = { port: 4000, program: '\u001b[2J'.repeat(200) };
  t.deepEqual(after({ ports: [long] }), [{ ...long, program: `${String.raw`\x1b[2J`.repeat(8)}…` }]);
  t.is(after({ ports: null }), null);
  t.deepEqual(peer.endings, []);
});

test('R-SERVICES-3: 64 ports with the longest names fit one frame, whatever services there are', (t) => {
  const program = '"\\ \u{1f600}é'.repeat(20);
  const ports = Array.from({ length: 70 }, (_, index) => ({ port: 65_535 - index, program }));
  for (const count of [0, 1, 10, 60, 61, 62, 200]) {
    const peer = FramePeer.established({ settings: { timeOfDay: () => 2 ** 53 - 1 } });
    const last = tell(t, peer, longNames(count), ports).at(-1);
    const told = last?.['ports'] as { port: number; program: string }[];
    t.is(told.length, 64);
    t.true(told.every((port) => /^[ -~]{32}$/.test(port.program) && !/["\\]/.test(port.program)));
  }
});

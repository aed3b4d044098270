import test from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { MAX_SERVICES } from '../../lib/session/services.js';
import { jsonOf } from '../helpers/frame-log.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { endsWith } from './ends-with.js';

const { SERVICES } = FRAME_TYPE;

const named = (count: number): string[] => Array.from({ length: count }, (_, index) => `service-${index}`);

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
  const services = Array.from({ length: 300 }, (_, index) => `s${index}`.padEnd(64, 'x')).sort();
  const peer = FramePeer.established();
  peer.session.setServices(services);
  peer.pump();
  const frames = peer.log.take();
  t.true(frames.length > 4);
  t.true(frames.every(({ payload }) => payload.length <= 4096));
  t.deepEqual(
    frames.map((frame) => jsonOf(frame)['more'] ?? false),
    frames.map((_, index) => index < frames.length - 1),
  );
  t.deepEqual(
    frames.flatMap((frame) => jsonOf(frame)['services'] as string[]),
    services,
  );
});

test('R-SERVICES-1: a list replaces the one before, when it is complete', (t) => {
  const peer = FramePeer.established();
  const seen: string[][] = [];
  peer.session.on('services', (services) => seen.push([...services]));
  peer.send(SERVICES, 0, { services: ['a', 'b'] });
  peer.send(SERVICES, 0, { services: ['c'], more: true });
  t.deepEqual([...peer.session.peerServices], ['a', 'b']);
  peer.send(SERVICES, 0, { services: ['d'], more: false, future: 1 });
  t.deepEqual(seen, [
    ['a', 'b'],
    ['c', 'd'],
  ]);
});

test('R-SERVICES-1: the time of day stands in the last frame of a list, where a side tells it', (t) => {
  const services = Array.from({ length: 100 }, (_, index) => `s${index}`.padEnd(64, 'x')).sort();
  const peer = FramePeer.established({ settings: { timeOfDay: () => 1_800_000_000_000.4 } });
  peer.log.take();
  peer.session.setServices(services);
  peer.pump();
  const times = peer.log.take().map((frame) => jsonOf(frame)['time']);
  t.deepEqual(times, [undefined, 1_800_000_000_000]);
});

test('R-SERVICES-1: by the time of day of a list a side knows how the clocks differ, and without one it does not', (t) => {
  const settings = { timeOfDay: () => 1_800_000_000_000 };
  const peer = FramePeer.established({ settings });
  peer.send(SERVICES, 0, { services: [], time: 1_799_999_990_000 });
  t.is(peer.session.clockOffsetMs, -10_000);
  for (const time of [null, undefined]) {
    peer.send(SERVICES, 0, { services: [], time: 1 });
    peer.send(SERVICES, 0, { services: [], time });
    t.is(peer.session.clockOffsetMs, null);
  }
  const silent = FramePeer.established();
  silent.send(SERVICES, 0, { services: [], time: 1 });
  t.is(silent.session.clockOffsetMs, null);
});

test('R-SERVICES-1: a time that is none ends the session', (t) => {
  for (const time of ['12:00', -1, 1.5, 2 ** 53, true, {}]) {
    endsWith(t, 'protocol-error', (peer) => peer.send(SERVICES, 0, { services: [], time }));
  }
});

test('R-SERVICES-2: a list of 4096 services is taken, a longer one is a flood', (t) => {
  t.is(MAX_SERVICES, 4096);
  const send = (peer: FramePeer, count: number): void => {
    const names = named(count);
    while (names.length > 0 && peer.endings.length === 0) {
      const services = names.splice(0, 128);
      peer.send(SERVICES, 0, { services, more: names.length > 0 });
    }
  };
  const peer = FramePeer.established();
  send(peer, 4096);
  t.is(peer.session.peerServices.size, 4096);
  endsWith(t, 'flood', (other) => send(other, 4097));
});

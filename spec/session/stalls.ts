/** How long nothing passed although something waited: what is said of a channel's stalls. */
import test from 'ava';
import { FramePeer, type FramePeerOptions } from '../helpers/frame-peer.js';

/** A peer that has opened a stream, on which the side under test sends far more than passes at once. */
function besideBulk(options: FramePeerOptions): FramePeer {
  const peer = FramePeer.established(options);
  peer.sendOpen(1);
  peer.sendCredit(1, 2 ** 40);
  return peer;
}

const sendBulk = (peer: FramePeer): void => {
  peer.sendFrom(1, 2 ** 22);
};

const stallMs = (peer: FramePeer): number => peer.session.counters.stallMs;

test('a peer that gives no credit for what it was sent does not read: that is a stall', (t) => {
  const peer = besideBulk({ peerLimits: { inFlight: 65_536 } });
  peer.clock.advance(5000);
  t.is(stallMs(peer), 0, 'nothing waits');
  sendBulk(peer);
  peer.clock.advance(999);
  t.is(stallMs(peer), 0);
  peer.clock.advance(1001);
  t.is(stallMs(peer), 2000);
  peer.sendCredit(0, 70_000);
  t.is(stallMs(peer), 2000);
  peer.clock.advance(3000);
  t.is(stallMs(peer), 5000, 'and again');
  peer.sendCredit(0, 2 ** 40);
  peer.clock.advance(5000);
  t.is(stallMs(peer), 5000);
});

test('a channel that takes nothing stalls, until it has written what it had', (t) => {
  const peer = besideBulk({ capacityBytes: 100_000, peerLimits: { inFlight: 2 ** 30 } });
  peer.isReading = false;
  sendBulk(peer);
  peer.clock.advance(4000);
  t.is(stallMs(peer), 4000);
  peer.isReading = true;
  peer.pump();
  peer.clock.advance(5000);
  t.is(stallMs(peer), 4000);
});

test('what waits because it is used to the full is no stall', (t) => {
  const peer = besideBulk({ peerLimits: { inFlight: 10_000 } });
  sendBulk(peer);
  for (let round = 2; round < 30; round += 1) {
    peer.clock.advance(900);
    peer.sendCredit(0, round * 10_000);
  }
  t.is(stallMs(peer), 0);
  t.true(peer.session.counters.sentBytes > 250_000);
});

test('a stream that waits for its own credit says nothing of the channel', (t) => {
  const peer = FramePeer.established({ peerLimits: { streamCredit: 2000 } });
  peer.sendOpen(1);
  sendBulk(peer);
  peer.clock.advance(3000);
  t.is(stallMs(peer), 0);
});

test('frames of control wait for a channel that takes nothing as well, and no longer than that', (t) => {
  const peer = FramePeer.established({ capacityBytes: 1 });
  for (let id = 1; id < 2000; id += 2) peer.sendOpen(id);
  peer.isReading = false;
  for (const stream of peer.streams.values()) stream.stop('local-error', 'x'.repeat(200));
  peer.clock.advance(2000);
  t.is(stallMs(peer), 2000);
  peer.isReading = true;
  peer.pump();
  peer.clock.advance(2000);
  t.is(stallMs(peer), 2000);
});

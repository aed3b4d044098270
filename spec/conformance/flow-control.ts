import test from 'ava';
import { FRAME_TYPE, INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import { Budget } from '../../lib/util/bounds.js';
import { conversations } from '../helpers/conversation.js';
import { FramePeer, type FramePeerOptions } from '../helpers/frame-peer.js';

const { DATA, PING } = FRAME_TYPE;

conversations({
  'R-FLOW-2: DATA up to the credit of a stream is taken, one byte more is flow-control': [
    'given limits.streamCredit=5000; OPEN 1, DATA 1 4000, DATA 1 1000 -> ACCEPT 1',
    ...INTEGRITY_LEVELS.map(
      (level) =>
        `given limits.streamCredit=5000, integrity=${level}; OPEN 1, DATA 1 4000, DATA 1 1001 -> ends flow-control`,
    ),
  ],
  'R-FLOW-2: credit also binds where this side has sent STOP and drops what comes':
    'given limits.streamCredit=5000; OPEN 1, stop 1, DATA 1 5000 -> ...; DATA 1 1 -> ends flow-control',
  'R-FLOW-2: DATA above the credit of the session is flow-control, also for streams that have ended': [
    'given limits.inFlight=4096; OPEN 1, DATA 1 4097 -> ends flow-control',
    'given limits.inFlight=4096; OPEN 1, RESET 1, DATA 1 4097 -> ends flow-control',
  ],
  'R-FLOW-2: credit is a total: one that lowers it is ignored, a repeated one does nothing': `
    given peerLimits.streamCredit=2000, peerLimits.inFlight=3000
    OPEN 1, CREDIT 1 1000, CREDIT 0 1000, send 1 9000 -> ACCEPT 1, DATA 1 2000
    CREDIT 1 2000 -> nothing
    CREDIT 1 8000 -> DATA 1 1000
    CREDIT 0 3000 -> nothing
    CREDIT 0 18446744073709551615 -> DATA 1 5000
    CREDIT 1 18446744073709551615, CREDIT 1 0 -> DATA 1 1000`,
  'R-FLOW-3: stream credit is raised by what has left the receiver, when half of the window has': `
    given limits.streamCredit=4000
    OPEN 1, wait 5000, DATA 1 4000, release 1 1999 -> ACCEPT 1
    release 1 1 -> CREDIT 1 6000`,
  'R-FLOW-3: no credit is given when the peer has ended its direction or was stopped': `
    given limits.streamCredit=4000
    OPEN 1, OPEN 3, DATA 1 4000, DATA 3 4000, FIN 1, stop 3 -> ACCEPT 1, ACCEPT 3, STOP 3 local-error
    release 1 4000, release 3 4000 -> nothing`,
  'R-FLOW-5: session credit is raised as DATA arrives, read or not, when a quarter is used': `
    given limits.inFlight=4000
    OPEN 1, DATA 1 999 -> ACCEPT 1
    DATA 1 1 -> CREDIT 0 5000
    RESET 1, DATA 1 1000 -> CREDIT 0 6000`,
  'R-FLOW-7: DATA goes out one frame per stream in turn, and control before it': `
    given capacityBytes=4096, peerLimits.streamCredit=1048576
    OPEN 1, OPEN 3, OPEN 5 -> ...
    deafen, send 1 200000, send 3 200000, send 5 140000, PING 0 -> nothing
    read -> DATA 1 131072, PONG 0, DATA 1 68928, DATA 3 131072, DATA 5 131072, DATA 3 68928, DATA 5 8928`,
  'a stream without credit does not hold up another one, and credit that comes with ACCEPT is used at once': `
    given peerLimits.streamCredit=1024
    OPEN 1, OPEN 3, send 1 5000, send 3 quick -> ACCEPT 1, ACCEPT 3, DATA 1 1024, DATA 3 5
    STOP 1 -> FIN 1
    open far, send far 9000, ACCEPT 2, CREDIT 2 9000 -> OPEN 2 far, DATA 2 1024, DATA 2 7976`,
});

/** Feeds `bytes` to a stream as fast as it gives credit, while its sink drains at once. Returns the last credit. */
function feed(peer: FramePeer, id: number, bytes: number): number {
  const sink = peer.sinks.get(id);
  if (sink !== undefined) sink.releases = peer.streams.get(id) ?? null;
  let credit = peer.settings.limits.streamCredit;
  for (let sent = 0; sent < bytes; ) {
    const size = Math.min(credit - sent, 65_536);
    if (size === 0) throw new Error('no more credit');
    peer.sendData(id, Buffer.alloc(size));
    sent += size;
    for (const text of peer.takeTexts()) {
      const [name, stream, total] = text.split(' ');
      if (name === 'CREDIT' && Number(stream) === id) credit = Number(total);
      if (name === 'PING') continue;
    }
  }
  return credit;
}

test('R-FLOW-4: a window grows up to 32 MiB while it drains fast, and the budget has the rest back at the end', (t) => {
  const receiveBudget = new Budget(64 * 2 ** 20);
  const peer = FramePeer.established({ settings: { receiveBudget }, limits: { inFlight: 2 ** 30 } });
  peer.sendOpen(1);
  const bytes = 72 * 2 ** 20;
  const credit = feed(peer, 1, bytes);
  t.true(credit - bytes <= 32 * 2 ** 20, `${credit - bytes}`);
  t.true(credit - bytes >= 16 * 2 ** 20, `${credit - bytes}`);
  t.is(receiveBudget.usedBytes, 32 * 2 ** 20 - 65_536);
  peer.send(FRAME_TYPE.RESET, 1, { code: 'denied', message: '' });
  t.is(receiveBudget.usedBytes, 0);
});

test('R-FLOW-4: with the budget full windows stop growing, and the stream goes on', (t) => {
  const receiveBudget = new Budget(200_000);
  const peer = FramePeer.established({ settings: { receiveBudget }, limits: { inFlight: 2 ** 30 } });
  peer.sendOpen(1);
  peer.sendOpen(3);
  t.is(feed(peer, 1, 5_000_000) > 5_000_000, true);
  t.is(feed(peer, 3, 5_000_000) > 5_000_000, true);
  t.true(receiveBudget.usedBytes <= 200_000);
  t.is(receiveBudget.usedBytes, 196_608);
});

test('R-FLOW-4: a window does not grow where the local end is slow', (t) => {
  const receiveBudget = new Budget(2 ** 30);
  const peer = FramePeer.established({ settings: { receiveBudget } });
  peer.sendOpen(1);
  for (let turn = 0; turn < 20; turn += 1) {
    peer.sendData(1, Buffer.alloc(32_768));
    peer.advance(1000);
    peer.streams.get(1)?.release(32_768);
    peer.pump();
  }
  t.is(receiveBudget.usedBytes, 0);
});

test('R-FLOW-5: the session window grows while the sender is held back and the round trip stays short', (t) => {
  const peer = new FramePeer({ limits: { inFlight: 4000, streamCredit: 2 ** 30 } });
  let sentBytes = 0;
  let creditBytes = 0;
  /** Answers the PINGs that came, after `roundTripMs`, and knows the newest credit. */
  const look = (roundTripMs: number): void => {
    for (const { type, streamId, payload } of peer.log.take()) {
      if (type === FRAME_TYPE.CREDIT && streamId === 0) creditBytes = Number(payload.readBigUInt64BE());
      if (type !== PING) continue;
      peer.clock.advance(roundTripMs);
      peer.send(FRAME_TYPE.PONG, 0, payload);
    }
  };
  /** The window after 16,000 more bytes. */
  const windowAfter = (roundTripMs: number): number => {
    for (let turn = 0; turn < 16; turn += 1) {
      peer.sendData(1, Buffer.alloc(1000));
      sentBytes += 1000;
      look(roundTripMs);
    }
    return creditBytes - sentBytes;
  };
  peer.loop.start();
  peer.establish();
  look(5);
  peer.sendOpen(1);
  const [first, second, third] = [5, 20, 20].map(windowAfter) as [number, number, number];
  t.true(first > 4000, `${first}`);
  t.true(third <= second * 2);
  const windows = Array.from({ length: 6 }, () => windowAfter(50));
  t.true(Math.max(...windows) <= 2 * third, `${windows.join()} after ${third}`);
});

/** The sizes of the DATA frames of some streams that have `size` bytes each to send while the channel takes nothing. */
function frameSizes(peer: FramePeer, ids: readonly number[], size: number): number[] {
  peer.log.take();
  peer.isReading = false;
  for (const id of ids) peer.sendFrom(id, size);
  peer.isReading = true;
  peer.pump();
  const frames = peer.log.take().filter(({ type }) => type === DATA);
  return frames.map(({ payload }) => payload.length);
}

/** A peer with some streams open, which gives large credits. */
function busyPeer(ids: readonly number[], options: FramePeerOptions = {}): FramePeer {
  const peer = FramePeer.established({
    capacityBytes: 4096,
    ...options,
    peerLimits: { streamCredit: 2 ** 20, ...options.peerLimits },
  });
  for (const id of ids) peer.sendOpen(id);
  return peer;
}

test('R-FLOW-8: frames are as large as allowed, and 1 KiB on a small channel', (t) => {
  t.deepEqual(frameSizes(busyPeer([1]), [1], 60_000), [60_000]);
  t.deepEqual(frameSizes(busyPeer([1, 3]), [1, 3], 150_000), [131_072, 18_928, 131_072, 18_928]);
  t.is(Math.max(...frameSizes(busyPeer([1], { limits: { frame: 4096 } }), [1], 60_000)), 1024);
  t.is(Math.max(...frameSizes(busyPeer([1], { peerLimits: { frame: 4096 } }), [1], 60_000)), 1024);
  t.is(Math.max(...frameSizes(busyPeer([1], { peerLimits: { frame: 5000 } }), [1], 60_000)), 5000);
});

test('R-FLOW-8: beside an interactive stream frames have 32 KiB, for a second after its last small frame', (t) => {
  const peer = busyPeer([1, 3, 5]);
  const largest = (): number => Math.max(...frameSizes(peer, [1, 3], 150_000));
  frameSizes(peer, [5], 10);
  t.is(largest(), 131_072, 'one small frame may be a request');
  frameSizes(peer, [5], 10);
  t.is(largest(), 32_768);
  peer.advance(999);
  t.is(largest(), 32_768);
  peer.advance(1);
  t.is(largest(), 131_072);
});

/** The streams whose DATA goes out, in order, where those in `first` have 100 bytes each to send behind bulk of stream 1. */
function order(peer: FramePeer, first: readonly number[]): number[] {
  peer.log.take();
  peer.isReading = false;
  peer.sendFrom(1, 300_000);
  for (const id of first) peer.sendFrom(id, 100);
  peer.isReading = true;
  peer.pump();
  return peer.log.take().flatMap(({ type, streamId }) => (type === DATA ? [streamId] : []));
}

test('R-FLOW-8: a stream that sent two small frames in a row goes before others, also when that was long ago', (t) => {
  const peer = busyPeer([1, 3, 5, 7]);
  frameSizes(peer, [7], 10);
  frameSizes(peer, [7], 10);
  peer.advance(100_000);
  t.deepEqual(order(peer, [3, 7]).slice(0, 4), [1, 7, 1, 3], 'behind the frame that went before it came');
  frameSizes(peer, [7], 2000);
  t.deepEqual(order(peer, [3, 7]).slice(0, 4), [1, 1, 3, 7], 'not behind a larger frame of its own');
});

test('R-FLOW-8: small frames go first 32 times in a row while others wait', (t) => {
  const ids = Array.from({ length: 40 }, (_, index) => 3 + 2 * index);
  const peer = busyPeer([1, ...ids]);
  frameSizes(peer, ids, 10);
  frameSizes(peer, ids, 10);
  const sent = order(peer, ids);
  const behind = sent.slice(sent.indexOf(3));
  t.deepEqual(behind.slice(0, 32), ids.slice(0, 32));
  t.deepEqual(behind.slice(32, 41), [1, ...ids.slice(32)]);
  t.deepEqual([...new Set(behind.slice(41))], [1]);
});

test('R-FLOW-8: a stream is interactive no longer when it sends a larger frame, or has ended', (t) => {
  const peer = busyPeer([1, 5]);
  const type = (): unknown => [frameSizes(peer, [5], 10), frameSizes(peer, [5], 10)];
  type();
  t.deepEqual(frameSizes(peer, [5], 40_000), [40_000]);
  t.deepEqual(frameSizes(peer, [1], 40_000), [40_000]);
  frameSizes(peer, [5], 10);
  t.deepEqual(frameSizes(peer, [1], 40_000), [40_000], 'the rest of a transfer');
  type();
  peer.streams.get(5)?.reset('cancelled', '');
  t.deepEqual(frameSizes(peer, [1], 40_000), [40_000]);
});

test('R-FLOW-8: 128 KiB wait in a channel that is not read, 64 KiB beside an interactive stream', (t) => {
  const waiting = (ids: readonly number[], options: FramePeerOptions & { interactive?: number } = {}): number => {
    const peer = busyPeer([1, 3, 5, 7], options);
    for (let letters = 0; letters < 2; letters += 1) {
      if (options.interactive !== undefined) frameSizes(peer, [options.interactive], 10);
    }
    peer.isReading = false;
    for (const id of ids) {
      const size = 2 ** 20;
      peer.sendFrom(id, size);
    }
    return peer.outbound.unwrittenBytes;
  };
  const FRAME = 131_072;
  t.true(waiting([1]) >= FRAME && waiting([1]) < 2 * FRAME, `${waiting([1])}`);
  t.true(waiting([1, 3, 5]) < 2 * FRAME, `${waiting([1, 3, 5])}`);
  t.true(waiting([1, 3, 5], { interactive: 7 }) <= 65_536 + 32_768 + 16, `${waiting([1, 3, 5], { interactive: 7 })}`);
  t.true(waiting([1], { peerLimits: { frame: 4096 } }) <= 2048 + 32);
});

test('R-FLOW-1: a side reads on while its own channel is not read', (t) => {
  const peer = FramePeer.established({ capacityBytes: 4096, limits: { inFlight: 100_000, streamCredit: 2 ** 20 } });
  peer.sendOpen(1);
  peer.isReading = false;
  peer.sendFrom(1, 65_536);
  for (let sent = 0; sent < 100_000; sent += 10_000) peer.sendData(1, Buffer.alloc(10_000, sent / 10_000));
  t.is(peer.sinks.get(1)?.bytes.length, 100_000);
  t.deepEqual(peer.endings, []);
});

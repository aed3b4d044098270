import test from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { InFlightCredit } from '../../lib/session/flow.js';
import { Budget } from '../../lib/util/bounds.js';
import { FramePeer, type FramePeerOptions } from '../helpers/frame-peer.js';
import type { PatternEnd } from '../helpers/local-ends.js';
import { SessionPair } from '../helpers/session-pair.js';
import { ManualClock } from '../helpers/time.js';
import { Traffic } from '../helpers/traffic.js';

const { DATA, PING } = FRAME_TYPE;

/** Feeds `bytes` to a stream as fast as it gives credit, while its sink drains at once. Returns the credit left then. */
function windowAfter(peer: FramePeer, id: number, bytes: number): number {
  const sink = peer.sinks.get(id);
  if (sink !== undefined) sink.releases = peer.streams.get(id) ?? null;
  let credit = peer.settings.limits.streamCredit;
  for (let sent = 0; sent < bytes; ) {
    const size = Math.min(credit - sent, 65_536);
    if (size === 0) throw new Error('no more credit');
    peer.sendData(id, Buffer.alloc(size));
    sent += size;
    for (const text of peer.takeTexts()) credit = Number(new RegExp(`^CREDIT ${id} (.*)`).exec(text)?.[1] ?? credit);
  }
  return credit - bytes;
}

test('R-FLOW-4: a window grows up to 32 MiB while it drains fast, and returns it to the budget at the end', (t) => {
  const receiveBudget = new Budget(64 * 2 ** 20);
  const peer = FramePeer.established({ settings: { receiveBudget }, limits: { inFlight: 2 ** 30 } });
  peer.sendOpen(1);
  const window = windowAfter(peer, 1, 72 * 2 ** 20);
  t.true(window >= 16 * 2 ** 20 && window <= 32 * 2 ** 20, `${window}`);
  t.is(receiveBudget.usedBytes, 32 * 2 ** 20 - 65_536);
  peer.say('RESET 1');
  t.is(receiveBudget.usedBytes, 0);
});

test('R-FLOW-4: with the budget full windows stop growing, and the stream continues', (t) => {
  const receiveBudget = new Budget(200_000);
  const peer = FramePeer.established({ settings: { receiveBudget }, limits: { inFlight: 2 ** 30 } });
  peer.say('OPEN 1, OPEN 3');
  for (const id of [1, 3]) t.true(windowAfter(peer, id, 5_000_000) > 0);
  t.is(receiveBudget.usedBytes, 196_608);
});

test('R-FLOW-4: a window does not grow if the local end is slow', (t) => {
  const receiveBudget = new Budget(2 ** 30);
  const peer = FramePeer.established({ settings: { receiveBudget } });
  peer.sendOpen(1);
  for (let turn = 0; turn < 20; turn += 1) {
    peer.say('DATA 1 32768');
    peer.advance(1000);
    peer.streams.get(1)?.release(32_768);
    peer.pump();
  }
  t.is(receiveBudget.usedBytes, 0);
});

/** Returns a function that sends 16,000 more bytes, and returns the credit that is left then. */
function growingWindow(): (roundTripMs: number) => number {
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
  peer.loop.start();
  peer.establish();
  look(5);
  peer.sendOpen(1);
  return (roundTripMs) => {
    for (let turn = 0; turn < 16; turn += 1) {
      peer.say('DATA 1 1000');
      sentBytes += 1000;
      look(roundTripMs);
    }
    return creditBytes - sentBytes;
  };
}

test('R-FLOW-5: the session window grows while the sender is held back and the round trip stays short', (t) => {
  const windowIn = growingWindow();
  const [first, second, third] = [5, 20, 20].map(windowIn) as [number, number, number];
  t.true(first > 4000, `${first}`);
  t.true(third <= second * 2);
  const windows = Array.from({ length: 6 }, () => windowIn(50));
  t.true(Math.max(...windows) <= 2 * third, `${windows.join()} after ${third}`);

  // Held back in the round before, but behind a queue. At least three quarters of the window are left.
  const queued = growingWindow();
  const quick = queued(5);
  const slow = Array.from({ length: 6 }, () => queued(50));
  t.true(Math.max(...slow) <= (quick * 4) / 3, `${slow.join()} after ${quick}`);
});

test('R-FLOW-5: a session window that begins above 64 MiB stays as it is', (t) => {
  const firstBytes = 128 * 2 ** 20;
  let ping: Buffer = Buffer.alloc(8);
  const sendPing = (payload: Buffer) => (ping = payload);
  const randomBytes = (count: number) => Buffer.alloc(count);
  const credit = new InFlightCredit({ clock: new ManualClock(), firstBytes, sendPing, randomBytes });
  credit.receive(firstBytes);
  t.true(credit.handlePong(ping));
  credit.receive(firstBytes / 2);
  t.is(credit.grantedBytes, 2.5 * firstBytes);
});

/** A peer with open streams, which gives large credits. */
class BusyPeer {
  readonly peer: FramePeer;

  constructor(ids: readonly number[], options: FramePeerOptions = {}) {
    const peerLimits = { streamCredit: 2 ** 20, ...options.peerLimits };
    this.peer = FramePeer.established({ capacityBytes: 4096, ...options, peerLimits });
    for (const id of ids) this.peer.sendOpen(id);
  }

  /** The streams and sizes of the DATA frames sent for `sends` (bytes by stream), given while the channel takes nothing. */
  frames(sends: readonly (readonly [id: number, bytes: number])[]): (readonly [id: number, bytes: number])[] {
    const { peer } = this;
    peer.log.take();
    peer.isReading = false;
    for (const [id, bytes] of sends) peer.sendFrom(id, bytes);
    peer.isReading = true;
    peer.pump();
    const frames = peer.log.take().filter(({ type }) => type === DATA);
    return frames.map(({ streamId, payload }) => [streamId, payload.length]);
  }

  sizes(bytes: number, ...ids: readonly number[]): number[] {
    return this.frames(ids.map((id) => [id, bytes])).map(([, size]) => size);
  }

  /** Makes streams send two small frames in a row each, as interactive ones do. */
  type(...ids: readonly number[]): void {
    for (let letters = 0; letters < 2; letters += 1) this.sizes(10, ...ids);
  }

  /** The streams whose DATA is sent, in order, if some have 100 bytes each to send behind bulk of stream 1. */
  order(...first: readonly number[]): number[] {
    return this.frames([[1, 300_000], ...first.map((id) => [id, 100] as const)]).map(([id]) => id);
  }
}

test('R-FLOW-8: frames are as large as allowed, and 1 KiB on a small channel', (t) => {
  t.deepEqual(new BusyPeer([1]).sizes(60_000, 1), [60_000]);
  t.deepEqual(new BusyPeer([1, 3]).sizes(150_000, 1, 3), [131_072, 18_928, 131_072, 18_928]);
  for (const [options, largest] of [
    [{ limits: { frame: 4096 } }, 1024],
    [{ peerLimits: { frame: 4096 } }, 1024],
    [{ peerLimits: { frame: 5000 } }, 5000],
  ] as const)
    t.is(Math.max(...new BusyPeer([1], options).sizes(60_000, 1)), largest);
});

test('R-FLOW-8: beside an interactive stream frames are cut to 32 KiB, for a second after its last small frame', (t) => {
  const busy = new BusyPeer([1, 3, 5]);
  const largest = (): number => Math.max(...busy.sizes(150_000, 1, 3));
  busy.sizes(10, 5);
  t.is(largest(), 131_072, 'one small frame may be a request');
  busy.sizes(10, 5);
  t.is(largest(), 32_768);
  busy.peer.advance(999);
  t.is(largest(), 32_768);
  busy.peer.advance(1);
  t.is(largest(), 131_072);
});

test('R-FLOW-8: a stream is no longer interactive once it sends a larger frame or has ended', (t) => {
  const busy = new BusyPeer([1, 5]);
  busy.type(5);
  for (const id of [5, 1]) t.deepEqual(busy.sizes(40_000, id), [40_000]);
  busy.sizes(10, 5);
  t.deepEqual(busy.sizes(40_000, 1), [40_000], 'the rest of a transfer');
  busy.type(5);
  busy.peer.streams.get(5)?.reset('cancelled', '');
  t.deepEqual(busy.sizes(40_000, 1), [40_000]);
});

test('R-FLOW-8: a stream that sent two small frames in a row goes before others, even if that was long ago', (t) => {
  const busy = new BusyPeer([1, 3, 5, 7]);
  busy.type(7);
  busy.peer.advance(100_000);
  t.deepEqual(busy.order(3, 7).slice(0, 4), [1, 7, 1, 3], 'behind the frame that went before it came');
  busy.sizes(2000, 7);
  t.deepEqual(busy.order(3, 7).slice(0, 4), [1, 1, 3, 7], 'not behind a larger frame of its own');
});

test('R-FLOW-8: small frames go first 32 times in a row while others wait', (t) => {
  const ids = Array.from({ length: 40 }, (_, index) => 3 + 2 * index);
  const busy = new BusyPeer([1, ...ids]);
  busy.type(...ids);
  const sent = busy.order(...ids);
  const [bulk, ...rest] = sent.slice(sent.indexOf(3) + 32);
  t.deepEqual(sent.slice(sent.indexOf(3)).slice(0, 32), ids.slice(0, 32));
  t.deepEqual([bulk, ...rest.splice(0, 8)], [1, ...ids.slice(32)]);
  t.deepEqual([...new Set(rest)], [1]);
});

test('R-FLOW-8: 128 KiB wait in a channel that is not read, 64 KiB beside an interactive stream', (t) => {
  const FRAME = 131_072;
  for (const [ids, least, most, options, interactive] of [
    [[1], FRAME, 2 * FRAME - 1],
    [[1, 3, 5], 0, 2 * FRAME - 1],
    [[1, 3, 5], 0, 65_536 + 32_768 + 16, {}, 7],
    [[1], 0, 2048 + 32, { peerLimits: { frame: 4096 } }],
  ] as const) {
    const busy = new BusyPeer([1, 3, 5, 7], options);
    if (interactive !== undefined) busy.type(interactive);
    busy.peer.isReading = false;
    for (const id of ids) busy.peer.sendFrom(id, 2 ** 20);
    const { unwrittenBytes } = busy.peer.outbound;
    t.true(unwrittenBytes >= least && unwrittenBytes <= most, `${unwrittenBytes}`);
  }
});

test('R-FLOW-1: a side keeps reading while its own channel is not read', (t) => {
  const peer = FramePeer.established({ capacityBytes: 4096, limits: { inFlight: 100_000, streamCredit: 2 ** 20 } });
  peer.sendOpen(1);
  peer.isReading = false;
  peer.sendFrom(1, 65_536);
  for (let sent = 0; sent < 10; sent += 1) peer.say('DATA 1 10000');
  t.deepEqual([peer.sinks.get(1)?.bytes.length, peer.endings], [100_000, []]);
});

const MESSAGE_BYTES = 200_000;

for (const [integrity, pieceBytes] of [
  ['frame', 1013],
  ['full', 4096],
] as const) {
  test(`R-FLOW-1: floods both ways through 4 KiB, with 100 unread streams, all finish; integrity ${integrity}, pieces of ${pieceBytes}`, (t) => {
    const limits = { streamCredit: 16_384, inFlight: 65_536 };
    const pair = new SessionPair({ capacityBytes: 4096, integrity, limits });
    const traffic = new Traffic(pair);
    pair.establish();
    /** Both ends of the streams that the two sides open in turn. */
    const openMany = (count: number, isPaused: boolean): PatternEnd[] => {
      const ends = Array.from({ length: count }, (_, index) => traffic.open(index % 2 === 0 ? pair.a : pair.b));
      pair.settle();
      return ends.flatMap((end) => [end, end?.other].map((one) => Object.assign(one as PatternEnd, { isPaused })));
    };
    const unread = openMany(100, true);
    const unwritten = openMany(20, false);
    const floods = openMany(20, false);
    for (const end of [...unread, ...floods]) end.send(MESSAGE_BYTES);
    for (let step = 0; step < 300; step += 1) pair.step(pieceBytes);

    // Meanwhile another stream echoes at once: after what is already in the channel, and one turn of each.
    t.true(floods.some((end) => end.receivedBytes < MESSAGE_BYTES));
    const probe = traffic.open(pair.a);
    let steps = 0;
    const carryUntil = (isDone: () => boolean): void => {
      for (; !isDone() && steps < 4000; steps += 1) pair.step(pieceBytes);
    };
    probe?.send(1000);
    carryUntil(() => probe?.other?.receivedBytes === 1000);
    probe?.other?.send(1000);
    carryUntil(() => probe?.receivedBytes === 1000);
    t.true(steps * pieceBytes < 4 * (131_072 + 44 * 16_400), `${steps * pieceBytes}`);

    for (const end of floods) end.finish();
    pair.settle(pieceBytes);
    t.true(floods.every((end) => end.isOver && end.reason === null && end.receivedBytes === MESSAGE_BYTES));
    t.true(unread.every((end) => !end.isOver && end.receivedBytes === 16_384));
    t.true(unwritten.every((end) => !end.isOver));

    // An end that resumes reading at last gets everything.
    traffic.finishAll();
    pair.settle(pieceBytes);
    t.deepEqual(traffic.faults(), []);
    t.true(unread.every((end) => end.isOver && end.receivedBytes === MESSAGE_BYTES));
    t.is(pair.a.session.streams.size + pair.b.session.streams.size, 0);
    t.is(pair.a.settings.receiveBudget.usedBytes + pair.b.settings.receiveBudget.usedBytes, 0);
  });
}

/** A chunk that costs more than a turn of the event loop is read in several, with the same result (docs/architecture.md). */
import test from 'ava';
import fc from 'fast-check';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { VproxyError } from '../../lib/errors.js';
import type { SecureLayerHandler } from '../../lib/session/opening/auth.js';
import { creditPayload } from '../helpers/frame-maker.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { glassLayer } from '../helpers/glass-layer.js';
import { searchRuns } from '../helpers/searches.js';

const { OPEN, DATA, CREDIT, FIN, RESET, PING, GOAWAY } = FRAME_TYPE;

const pings = (peer: FramePeer, count: number): Buffer =>
  Buffer.concat(Array.from({ length: count }, () => peer.frame(PING, 0, Buffer.alloc(8))));

test('a frame is never cut by the end of a turn, and a chunk with few frames is read in one', (t) => {
  const peer = FramePeer.established();
  peer.sendOpen(1);
  peer.clock.costMs = 1;
  peer.turns = 0;
  const bytes = Buffer.alloc(30_000, 'x');
  peer.write(Buffer.concat([peer.frame(DATA, 1, bytes), peer.frame(DATA, 1, bytes)]));
  t.is(peer.turns, 1);
  t.deepEqual(
    peer.sinks.get(1)?.chunks.map(({ length }) => length),
    [30_000, 30_000],
  );
});

test('what takes no time is read in one turn, however many frames there are', (t) => {
  const peer = FramePeer.established();
  peer.turns = 0;
  peer.write(pings(peer, 5000));
  t.is(peer.turns, 1);
});

test('what is no HELLO is searched in several turns, and one that comes behind it establishes the session', (t) => {
  const peer = FramePeer.opening();
  peer.clock.costMs = 1;
  const stale = Buffer.alloc(20_000, 'stale');
  const hello = peer.hello({ ack: peer.otherNonce });
  peer.write(
    Buffer.concat([stale, hello, peer.frame(OPEN, 1, { service: 'echo' }), peer.frame(DATA, 1, Buffer.from('hi'))]),
  );
  t.true(peer.turns > 10, `${peer.turns}`);
  t.is(peer.loop.skippedBytes, stale.length);
  t.is(peer.sinks.get(1)?.bytes.toString(), 'hi');
});

test('a session that ends between two turns leaves the rest of the chunk to the next opening', (t) => {
  const peer = FramePeer.established();
  peer.clock.costMs = 1;
  t.false(peer.loop.receive(pings(peer, 100)), 'no stream has kept a part of it');
  const rest = Buffer.from(peer.loop.takeUnread() ?? []);
  t.true(rest.length > 0);
  t.is(peer.loop.takeUnread(), null, 'it is given once');
  peer.session.drain('in between');
  t.is(peer.endings.length, 1);
  peer.write(rest);
  t.is(peer.loop.skippedBytes, rest.length);
});

test('a loop that was stopped between two turns leaves nothing', (t) => {
  const peer = FramePeer.established();
  peer.clock.costMs = 1;
  peer.loop.receive(pings(peer, 100));
  const rest = peer.loop.takeUnread() ?? Buffer.alloc(0);
  peer.loop.stop(new VproxyError('shutdown', 'in between'));
  t.false(peer.loop.receive(rest));
  t.is(peer.loop.takeUnread(), null);
});

/** A peer whose session is inside a layer, as with TLS. */
function insideLayer(onMade?: Parameters<typeof glassLayer>[0]): FramePeer {
  const peer = FramePeer.opening({ settings: { secure: glassLayer(onMade) } });
  const outer = [peer.nonce, peer.otherNonce];
  peer.write(peer.hello({ ack: peer.otherNonce, tls: true }));
  peer.renew();
  // The first byte only establishes the layer.
  peer.write(Buffer.from([0]));
  peer.write(peer.hello({ ack: peer.otherNonce, features: outer.map((nonce) => `outer:${nonce}`) }));
  return peer;
}

test('what comes out of a layer is read in several turns, in order, and before what comes later', (t) => {
  const peer = insideLayer();
  peer.sendOpen(1);
  peer.clock.costMs = 1;
  peer.turns = 0;
  const letters = Array.from({ length: 2000 }, (_, index) => Buffer.from([index % 251]));
  peer.write(Buffer.concat(letters.map((letter) => peer.frame(DATA, 1, letter))));
  t.true(peer.turns > 100, `${peer.turns}`);
  t.deepEqual(peer.sinks.get(1)?.bytes, Buffer.concat(letters));
  t.deepEqual(peer.endings, []);
});

test('a layer that ends hands on all that came out of it', (t) => {
  let handler: SecureLayerHandler | null = null;
  const peer = insideLayer((made) => (handler = made));
  peer.sendOpen(1);
  peer.clock.costMs = 1;
  const letters = Buffer.concat(Array.from({ length: 200 }, () => peer.frame(DATA, 1, Buffer.from('x'))));
  const bye = peer.frame(GOAWAY, 0, { code: 'flood', message: 'bye', last: 0 });
  peer.loop.receive(Buffer.concat([letters, bye]));
  t.is(peer.loop.takeUnread()?.length, 0, 'it lies in the loop');
  (handler as unknown as SecureLayerHandler).onFailed(
    new VproxyError('peer-restarted', 'the peer ended TLS'),
    Buffer.alloc(0),
  );
  t.is(peer.sinks.get(1)?.bytes.length, 200);
  t.is(peer.codes[0], 'flood');
});

/** What a peer may send, right or wrong, as one of these for a stream of a few. */
const frames = fc.array(
  fc.record({
    type: fc.constantFrom(OPEN, DATA, DATA, DATA, CREDIT, FIN, RESET, PING, 0x80),
    streamId: fc.constantFrom(1, 3, 5),
    bytes: fc.integer({ min: 1, max: 100 }),
  }),
  { minLength: 20, maxLength: 200 },
);

function play(script: typeof frames extends fc.Arbitrary<infer T> ? T : never, costMs: number, pieceBytes: number) {
  const peer = FramePeer.established();
  peer.clock.costMs = costMs;
  const bytes = script.map(({ type, streamId, bytes }) => {
    if (type === OPEN) return peer.frame(type, streamId, { service: 'echo' });
    if (type === RESET) return peer.frame(type, streamId, { code: 'cancelled', message: '' });
    if (type === CREDIT) return peer.frame(type, streamId, creditPayload(bytes));
    if (type === PING) return peer.frame(type, 0, Buffer.alloc(8));
    return peer.frame(type, streamId, type === FIN ? undefined : Buffer.alloc(bytes, bytes));
  });
  peer.write(Buffer.concat(bytes), pieceBytes);
  const streams = [...peer.sinks].map(([id, sink]) => [
    id,
    sink.events.filter((event) => event !== 'data'),
    sink.bytes.toString('hex'),
  ]);
  return {
    turns: peer.turns,
    streams,
    endings: peer.endings.map(({ message }) => message),
    skipped: peer.loop.skippedBytes,
  };
}

test('whatever comes, it means the same in one turn and in many', (t) => {
  let turns = 0;
  fc.assert(
    fc.property(frames, fc.integer({ min: 1, max: 2000 }), (script, pieceBytes) => {
      const { turns: many, ...inMany } = play(script, 1, pieceBytes);
      const { turns: one, ...inOne } = play(script, 0, pieceBytes);
      t.deepEqual(inMany, inOne);
      turns += many - one;
    }),
    { numRuns: searchRuns(300) },
  );
  t.true(turns > 100, `${turns}`);
});

/** A chunk that costs more than one turn of the event loop is read in several, with the same result (docs/architecture.md). */
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import fc from 'fast-check';
import { creditPayload, framesOf } from '../../conformance/frame-maker.js';
import { FRAME_TYPE, INTEGRITY_LEVELS, type Integrity } from '../../lib/codec/header.js';
import { DEFAULT_LIMITS, HEADER_BYTES } from '../../lib/codec/limits.js';
import { VproxyError } from '../../lib/errors.js';
import type { Link, LinkHandler } from '../../lib/link/link.js';
import { LinkRunner } from '../../lib/link/link-runner.js';
import type { SecureLayerHandler } from '../../lib/session/opening/auth.js';
import { sessionSettings } from '../../lib/session/settings.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { peerInsideLayer } from '../helpers/glass-layer.js';
import { searchRuns } from '../helpers/searches.js';
import { seededIdentity } from '../helpers/session-pair.js';
import { eventually, ManualClock } from '../helpers/time.js';

const { OPEN, DATA, CREDIT, FIN, RESET, PING, GOAWAY } = FRAME_TYPE;

const pings = (peer: FramePeer, count: number): Buffer =>
  Buffer.concat(Array.from({ length: count }, () => peer.frame(PING, 0, Buffer.alloc(8))));

test('a frame is never cut by the end of a turn; a chunk with few frames, or one that takes no time, is read in one turn', (t) => {
  for (const [costMs, frames, chunks] of [
    [1, 'DATA 1 30000, DATA 1 30000', [30_000, 30_000]],
    [0, 'PING, '.repeat(4999).concat('PING'), []],
  ] as const) {
    const peer = FramePeer.established();
    peer.sendOpen(1);
    peer.clock.costMs = costMs;
    peer.turns = 0;
    peer.write(Buffer.concat(framesOf(frames).map((frame) => peer.frame(...frame))));
    t.is(peer.turns, 1);
    const lengths = peer.sinks.get(1)?.chunks.map(({ length }) => length);
    t.deepEqual(lengths, [...chunks]);
  }
});

test('a turn is ten times as long once no other channel has had one for 100 ms', (t) => {
  const clock = new ManualClock();
  const [peer, neighbour] = [FramePeer.established({ clock }), FramePeer.established({ clock })];
  const countTurns = (): number => {
    peer.turns = 0;
    peer.write(pings(peer, 2000));
    return peer.turns;
  };
  clock.costMs = 0.01;
  neighbour.write(pings(neighbour, 1));
  const beside = countTurns();
  clock.costMs = 0;
  clock.advance(50);
  clock.costMs = 0.01;
  t.true(Math.abs(countTurns() / beside - 1) < 0.1);
  clock.costMs = 0;
  clock.advance(101);
  clock.costMs = 0.01;
  const alone = countTurns();
  t.true(beside > 8 * alone, `${beside} turns beside a neighbour, ${alone} alone`);
});

test('other bytes are searched for a HELLO in several turns, and a HELLO after them establishes the session', (t) => {
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

test('a session that ends between two turns leaves the rest of the chunk to the next handshake; a stopped loop leaves nothing', (t) => {
  for (const isStopped of [false, true]) {
    const peer = FramePeer.established();
    peer.clock.costMs = 1;
    t.false(peer.loop.receive(pings(peer, 100)), 'no stream has kept a part of it');
    const rest = Buffer.from(peer.loop.takeUnread() ?? []);
    t.true(rest.length > 0);
    t.is(peer.loop.takeUnread(), null, 'it is given once');
    if (isStopped) peer.loop.stop(new VproxyError('shutdown', 'in between'));
    else peer.session.drain('in between');
    t.is(peer.endings.length, 1);
    peer.write(rest);
    t.is(peer.loop.skippedBytes, isStopped ? 0 : rest.length);
  }
});

/** A peer whose session is inside a layer, as with TLS. */
const insideLayer = (onMade?: (handler: SecureLayerHandler) => void): FramePeer =>
  peerInsideLayer((nonces) => ({ features: nonces.map((nonce) => `outer:${nonce}`) }), onMade);

test('the output of a layer is read in several turns, in order, before later input', (t) => {
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

test('a layer that ends hands on all of its output', (t) => {
  let handler: SecureLayerHandler | null = null;
  const peer = insideLayer((made) => (handler = made));
  peer.sendOpen(1);
  peer.clock.costMs = 1;
  const letters = Buffer.concat(Array.from({ length: 200 }, () => peer.frame(DATA, 1, Buffer.from('x'))));
  const bye = peer.frame(GOAWAY, 0, { code: 'flood', message: 'bye', last: 0 });
  peer.loop.receive(Buffer.concat([letters, bye]));
  t.is(peer.loop.takeUnread()?.length, 0, 'it lies in the loop');
  (handler as unknown as SecureLayerHandler).onFailed(
    new VproxyError('peer-restarted', 'TLS was closed by the peer'),
    Buffer.alloc(0),
  );
  t.is(peer.sinks.get(1)?.bytes.length, 200);
  t.is(peer.codes[0], 'flood');
});

test('bytes that come while a link is paused are read after those that wait for another turn', async (t) => {
  const clock = new ManualClock();
  const written: Buffer[] = [];
  let isPaused = false;
  let handler: LinkHandler | null = null;
  const writeParts = (parts: readonly Buffer[]): boolean => written.push(...parts.map((part) => Buffer.from(part))) > 0;
  /** Its bytes come even while it is paused, like the output of a command that has exited. */
  const link: Link = {
    description: 'a link',
    unwrittenBytes: 0,
    start: (itsHandler) => (handler = itsHandler),
    write: (bytes) => writeParts([bytes]),
    writeParts,
    pause: () => void (isPaused = true),
    resume: () => void (isPaused = false),
    close: () => undefined,
    destroy: () => undefined,
  };
  const runner = new LinkRunner(link, clock, sessionSettings(seededIdentity('a', 1)));
  const peer = new FramePeer({ clock });
  runner.start();
  peer.loop.start();
  await setImmediate();
  peer.loop.receive(Buffer.concat(written));
  // The peer's flush takes many turns; after it comes the HELLO that establishes the session.
  const { bytes } = peer.outbound.take(1_000_000);
  clock.costMs = 1;
  const cut = bytes.length - 100;
  const bring = (from: number, to: number): void =>
    void (handler as unknown as LinkHandler).onBytes(Buffer.from(bytes.subarray(from, to)));
  bring(0, cut);
  t.true(isPaused);
  for (let at = cut; at < bytes.length; at += 10) bring(at, at + 10);
  await eventually(() => !isPaused, { intervalMs: 0 });
  t.true(runner.loop.session?.wasEstablished);
  t.is(runner.loop.skippedBytes, DEFAULT_LIMITS.frame + HEADER_BYTES);
});

/** Input of a peer, valid or not, for one of a few streams. */
const frames = fc.array(
  fc.record({
    type: fc.constantFrom(OPEN, DATA, DATA, DATA, CREDIT, FIN, RESET, PING, 0x80),
    streamId: fc.constantFrom(1, 3, 5),
    bytes: fc.integer({ min: 1, max: 100 }),
  }),
  { minLength: 20, maxLength: 200 },
);

type Script = typeof frames extends fc.Arbitrary<infer T> ? T : never;

/** The results at a side on which each reading of the clock costs this much time. */
function play(script: Script, integrity: Integrity, costMs: number, pieceBytes: number) {
  const peer = FramePeer.established({ integrity, settings: seededIdentity('side', 1) });
  peer.clock.costMs = costMs;
  const bytes = script.map(({ type, streamId, bytes }) => {
    if (type === OPEN) return peer.frame(type, streamId, { service: 'echo' });
    if (type === RESET) return peer.frame(type, streamId, { code: 'cancelled', message: '' });
    if (type === CREDIT) return peer.frame(type, streamId, creditPayload(bytes));
    if (type === PING) return peer.frame(type, 0, Buffer.alloc(8));
    return peer.frame(type, streamId, type === FIN ? undefined : Buffer.alloc(bytes, bytes));
  });
  peer.write(Buffer.concat(bytes), pieceBytes);
  const streams = [...peer.sinks].map(([id, { events, bytes: all }]) => {
    return [id, events.filter((event) => event !== 'data'), all.toString('hex')];
  });
  const endings = peer.endings.map(({ message }) => message);
  return { turns: peer.turns, skipped: peer.loop.skippedBytes, seen: { streams, endings } };
}

test('any input has the same meaning in one turn and in many, in one piece and in many', (t) => {
  let turns = 0;
  const pieces = fc.integer({ min: 1, max: 2000 });
  fc.assert(
    fc.property(frames, fc.constantFrom(...INTEGRITY_LEVELS), pieces, (script, integrity, pieceBytes) => {
      const [many, one] = [1, 0].map((costMs) => play(script, integrity, costMs, pieceBytes));
      t.deepEqual([many?.skipped, many?.seen], [one?.skipped, one?.seen]);
      t.deepEqual(play(script, integrity, 0, 2 ** 20).seen, one?.seen);
      turns += (many?.turns ?? 0) - (one?.turns ?? 0);
    }),
    { numRuns: searchRuns(300) },
  );
  t.true(turns > 100, `${turns}`);
});

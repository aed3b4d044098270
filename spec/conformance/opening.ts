import test from 'ava';
import { INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import { MAGIC } from '../../lib/codec/hello.js';
import { FramePeer, type FramePeerOptions } from '../helpers/frame-peer.js';

const opening = (options?: FramePeerOptions): FramePeer => FramePeer.opening(options);

/** The nonces of the HELLOs that the side has answered. */
const acksOf = (peer: FramePeer, first = 0): (string | null)[] => peer.log.hellos.slice(first).map(({ ack }) => ack);

const established = (peer: FramePeer): boolean => peer.loop.session !== null;

/** How often a side has sent something of this kind. */
function countOf(peer: FramePeer, event: 'echo' | 'quiet'): () => number {
  let count = 0;
  peer.loop.on(event, () => (count += 1));
  return () => count;
}

test('R-OPEN-1, R-OPEN-2: a handshake begins with zeros, 16 more than the largest payload that the side sends; HELLO follows, every second until established', (t) => {
  for (const [limits, flushedBytes] of [
    [{}, 131_088],
    [{ frame: 4096 }, 4112],
  ] as const) {
    const peer = opening({ limits });
    for (let second = 1; second <= 20; second += 1) {
      t.is(peer.log.hellos.length, second);
      if (second < 20) peer.advance(1000);
    }
    t.is(new Set(peer.log.hellos.map(({ nonce }) => nonce)).size, 1);
    t.is(peer.log.flushedBytes, flushedBytes);
    peer.establish();
    const { length } = peer.log.hellos;
    peer.advance(20_000);
    t.is(peer.log.hellos.length, length);
  }
});

test('R-OPEN-2, R-OPEN-7: a peer that reads nothing costs no memory, silent for a day or with ever new nonces; the newest is answered', (t) => {
  const peer = new FramePeer({ capacityBytes: 4096 });
  peer.isReading = false;
  peer.loop.start();
  const { totalBytes } = peer.outbound;
  peer.clock.advance(24 * 3_600_000);
  for (let second = 0; second < 3600; second += 1) {
    peer.renew();
    peer.write(peer.hello());
    peer.clock.advance(1000);
    t.true(peer.outbound.totalBytes <= totalBytes);
  }
  peer.isReading = true;
  peer.pump();
  t.deepEqual(acksOf(peer), [null, peer.nonce], 'one answer waits, the newest');
});

test('R-CHANNEL-3: to a peer whose channel is taken, HELLO says so and GOAWAY is the only frame; a side that is told so has no session', (t) => {
  let isTaken = true;
  const [refused, late, told] = [1, 2, 3].map(() => opening({ settings: { isTaken: () => isTaken } })) as [
    FramePeer,
    FramePeer,
    FramePeer,
  ];
  refused.establish();
  const busy = refused.log.hellos.map(({ features }) => features.includes('busy'));
  t.deepEqual(busy, [false, true]);
  t.deepEqual(refused.takeTexts(), ['GOAWAY 0 channel-busy']);
  isTaken = false;
  late.write(late.hello());
  told.establish({ features: ['busy'] });
  // Another peer was faster.
  isTaken = true;
  late.establish();
  for (const peer of [refused, late, told]) t.deepEqual([peer.codes, peer.sessions], [['channel-busy'], []]);
});

test('R-OPEN-3: skipped bytes are counted; bytes after a HELLO are read', (t) => {
  for (const pieceBytes of [7, 31, 2 ** 20]) {
    const peer = opening();
    const stale = Buffer.alloc(100_000, Buffer.concat([MAGIC, Buffer.from('abc')]));
    const hello = peer.hello({ ack: peer.otherNonce });
    peer.write(Buffer.concat([stale, hello, peer.frame(0x0c, 0, Buffer.alloc(8))]), pieceBytes);
    t.deepEqual([peer.takeTexts().includes('PONG 0'), peer.loop.skippedBytes], [true, stale.length]);
  }
});

test('R-OPEN-4: HELLO has the identity and limits of its side; agent and name are cut to keep it within 4096 bytes', (t) => {
  const peer = opening({ settings: { name: 'vm7', agent: 'vproxy 0.1.0' }, limits: { streams: 7 } });
  const [hello] = peer.log.hellos;
  t.like(hello, {
    version: { min: 1, max: 1 },
    ack: null,
    instance: peer.settings.instance,
    agent: 'vproxy 0.1.0',
    name: 'vm7',
    limits: { frame: 131_072, streamCredit: 65_536, inFlight: 1_048_576, streams: 7, opens: 256 },
    integrity: 'full',
    auth: null,
    tls: false,
    features: ['datagram'],
  });
  t.regex(hello?.nonce ?? '', /^[0-9a-f]{32}$/);
  for (const letter of ['\u0001', '€', 'x']) {
    const { log } = opening({ settings: { name: letter.repeat(5000), agent: letter.repeat(5000) } });
    t.is(log.hellos.length, 1);
    t.true(log.helloPayload.length <= 4096);
  }
});

test('R-OPEN-6: a HELLO with our own nonce or instance is ignored and reported as an echo', (t) => {
  const peer = opening();
  const echoes = countOf(peer, 'echo');
  peer.establish({ nonce: peer.otherNonce });
  peer.establish({ instance: peer.settings.instance });
  t.deepEqual([echoes(), established(peer), peer.log.hellos.length], [2, false, 1]);
});

test('R-OPEN-9, R-OPEN-10, R-INTEGRITY-2: the highest common version is spoken, the greater nonce has odd ids, the stronger level is in effect', (t) => {
  for (const isOdd of [true, false]) {
    for (const [own, other] of INTEGRITY_LEVELS.flatMap((one) => INTEGRITY_LEVELS.map((two) => [one, two] as const))) {
      const peer = opening({ isOdd, integrity: own });
      const integrity = own === other ? own : 'full';
      peer.log.integrity = integrity;
      peer.establish({ version: { min: 0, max: 7 }, integrity: other });
      t.like(peer.session.agreement, { version: 1, isOdd: !isOdd, integrity });
      t.deepEqual(peer.takeTexts(), ['SERVICES 0', 'PING 0']);
    }
  }
});

test('R-OPEN-9: the text of version-mismatch has both ranges', (t) => {
  const peer = opening();
  peer.establish({ version: { min: 2, max: 3 } });
  t.regex(String(peer.log.frames[0]?.payload), /1–1.*2–3/);
});

test('R-OPEN-11: 5 s after an answer without being established the side starts over, doubling up to 40 s', (t) => {
  const peer = opening();
  const begin = () => ({ nonce: peer.otherNonce, atMs: peer.clock.now() });
  const seconds: number[] = [];
  let attempt = begin();
  peer.write(peer.hello());
  for (let second = 0; second < 600; second += 1) {
    peer.advance(1000);
    if (peer.otherNonce === attempt.nonce) continue;
    seconds.push((peer.clock.now() - attempt.atMs) / 1000);
    attempt = begin();
    peer.renew();
    peer.write(peer.hello());
  }
  for (const [index, nominal] of [5, 10, 20, 40, 40, 40].entries()) {
    const took = seconds[index] ?? 0;
    t.true(took >= nominal * 0.75 - 1 && took <= nominal * 1.25 + 1, `attempt ${index} took ${took} s`);
  }
  t.is(peer.log.flushedBytes, 131_088 * (seconds.length + 1));
});

/** Whether the side waits about this long after its session ended before it starts over; measured in steps of 10 ms. */
function pausesFor(peer: FramePeer, nominalMs: number): string | true {
  const { flushedBytes } = peer.log;
  let ms = 0;
  for (; peer.log.flushedBytes === flushedBytes && ms < 200_000; ms += 10) peer.advance(10);
  return (ms >= nominalMs * 0.75 - 10 && ms <= nominalMs * 1.25 + 10) || `${ms} instead of ${nominalMs}`;
}

test('R-OPEN-12: after sessions of less than 10 s the side waits 0.1 s, doubling to 5 s', (t) => {
  const peer = FramePeer.established();
  const again = (): void => {
    peer.renew();
    peer.establish();
  };
  for (const nominalMs of [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]) {
    peer.write(Buffer.alloc(1));
    t.true(pausesFor(peer, nominalMs));
    again();
  }
  peer.advance(10_000);
  const { flushedBytes } = peer.log;
  peer.write(Buffer.alloc(1));
  t.is(peer.log.flushedBytes, flushedBytes + 131_088);
  again();
  peer.write(Buffer.alloc(1));
  t.true(pausesFor(peer, 100));
});

test('R-OPEN-12: after version-mismatch and auth-failed it waits up to 60 s', (t) => {
  const peer = opening();
  for (const nominalMs of [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]) {
    peer.renew();
    peer.establish({ tls: true });
    t.true(pausesFor(peer, nominalMs));
  }
});

test('R-OPEN-12: during the pause only the newest HELLO is kept, and it is answered when the side starts over', (t) => {
  const peer = FramePeer.established();
  peer.write(Buffer.alloc(1));
  const { length } = peer.log.hellos;
  for (let turn = 0; turn < 5; turn += 1) {
    peer.renew();
    peer.write(Buffer.concat([Buffer.alloc(500), peer.hello()]), 50);
  }
  peer.write(peer.hello({ instance: peer.settings.instance, nonce: peer.otherNonce }));
  t.is(peer.log.hellos.length, length);
  peer.advance(200);
  t.deepEqual(acksOf(peer, length), [null, peer.nonce]);
});

test('R-OPEN-13: after a desync the bytes after the wrong frame are searched for a HELLO, even if the frame came too late', (t) => {
  const peer = FramePeer.established();
  const frame = peer.frame(0x0c, 0, Buffer.alloc(8));
  for (let at = 0; at < 20; at += 1) {
    peer.write(frame.subarray(at, at + 1));
    peer.advance(at === 19 ? 14_000 : 1000);
  }
  peer.renew();
  peer.write(peer.hello());
  t.deepEqual([peer.codes[0], peer.log.hellos.at(-1)?.ack], ['desync', peer.nonce]);
});

/** How long a side hears nothing before it reports quiet. */
const QUIET_MS = 5000;
/** The longest wait for the outcome of its first answer (R-OPEN-11). */
const ATTEMPT_MS = 1.25 * 5000;

test('a peer that was answered may be slow: it counts as quiet in the next attempt at the earliest', (t) => {
  for (const isSlow of [true, false]) {
    const peer = opening();
    const silences = countOf(peer, 'quiet');
    peer.clock.advance(isSlow ? QUIET_MS - 1 : 0);
    peer.write(peer.hello());
    peer.clock.advance(isSlow ? 1 : QUIET_MS);
    t.is(silences(), 0);
    if (isSlow) peer.establish();
    t.is(peer.sessions.length, isSlow ? 1 : 0);
    peer.clock.advance(ATTEMPT_MS);
    t.is(silences(), isSlow ? 0 : 1);
  }
});

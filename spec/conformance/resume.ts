/** R-RESUME-1 to R-RESUME-6: sessions that outlive their channels, and peers that do it wrong. */
import test, { type ExecutionContext } from 'ava';
import { formatSeen } from '../../conformance/frame-log.js';
import { creditPayload, hmacOf } from '../../conformance/frame-maker.js';
import { DataCheck, FRAME_TYPE } from '../../lib/codec/header.js';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import type { FramePeer } from '../helpers/frame-peer.js';
import { glassLayer } from '../helpers/glass-layer.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { type Channel, ResumingPeer, type ResumingPeerOptions, type SaidAgain } from '../helpers/resuming-peer.js';

const { ACK, AUTH, DATA, GOAWAY, RESUME } = FRAME_TYPE;
const EIGHT = Buffer.from('12345678');

/** The session continues on the newest channel. */
function isAlive(t: ExecutionContext, peer: ResumingPeer): void {
  t.deepEqual(peer.endings, []);
  peer.link.log.take();
  peer.say('PING');
  t.deepEqual(peer.link.takeTexts(), ['PONG 0']);
}

/** The session waits, and a well-behaved peer resumes it. */
function isStillThere(t: ExecutionContext, peer: ResumingPeer, sequence: number): void {
  t.deepEqual([peer.endings, peer.sessions[0]?.isSuspended], [[], true]);
  peer.connect();
  peer.goOn(sequence);
  t.is(peer.link.loop.session, peer.sessions[0] ?? null);
  isAlive(t, peer);
}

/** A session that has lost its channel, and another one, on which both sides are established with each other. */
function suspended(peer = ResumingPeer.resumable(), again: SaidAgain = {}) {
  const sequence = peer.lose();
  return { peer, sequence, ...peer.connect(again) };
}

/** The side under test abandoned a handshake for a reason that it does not announce, and starts over after a while. */
function opensAgain(t: ExecutionContext, link: FramePeer, reason: string): void {
  const { length } = link.log.hellos;
  t.deepEqual([link.loop.session, ...link.codes], [null, reason]);
  t.false(link.log.take().some(({ type }) => type === GOAWAY));
  link.advance(125);
  t.is(link.log.hellos.length, length + 1);
  t.not(link.log.hellos.at(-1)?.nonce, link.log.hellos.at(-2)?.nonce);
}

/** The `features` in a HELLO of the side that concern resuming. */
const namedBy = ({ log }: FramePeer, at = 0): readonly string[] | undefined =>
  log.hellos.at(at)?.features.filter((feature) => feature !== 'datagram');

/** Another channel, on which the peer names no session. */
const connectAnew = (peer: ResumingPeer, fields = {}): FramePeer =>
  peer.connect({ fields: { features: ['resume'], ...fields } }).link;

// ---- R-RESUME-1: what both sides have --------------------------------------------------------------------------------

test('R-RESUME-1: a side that can resume announces it; SECRET is its first frame, with 32 bytes that differ each time', (t) => {
  t.deepEqual(namedBy(new ResumingPeer({ settings: { resume: null } }).link), []);
  const secrets = [0, 1].map(() => {
    const { link } = new ResumingPeer();
    t.deepEqual([namedBy(link), link.log.frames.map(formatSeen)], [['resume'], ['SECRET 0', 'SERVICES 0', 'PING 0']]);
    return link.log.frames[0]?.payload ?? Buffer.alloc(0);
  });
  t.is(secrets[0]?.length, 32);
  t.notDeepEqual(secrets[0], secrets[1]);
});

for (const [what, settings, features] of [
  ['the peer cannot resume', {}, []],
  ['the peer names a session, but does not announce that it can resume', {}, ['resume:0123456789abcdef']],
  ['this side cannot resume', { resume: null }, ['resume']],
] as const) {
  test(`R-RESUME-1: ${what}: neither SECRET nor ACK, and the session ends with its channel`, (t) => {
    const make = (): ResumingPeer => new ResumingPeer({ settings }, { features });
    const peer = make();
    peer.link.advance(1000);
    t.deepEqual(peer.link.takeTexts(), ['SERVICES 0', 'PING 0']);
    peer.lose();
    t.deepEqual(peer.endings, ['channel-closed']);
    for (const frame of ['SECRET', 'ACK']) {
      const other = make();
      other.say(frame);
      t.deepEqual(other.endings, ['protocol-error'], frame);
    }
  });
}

test('R-RESUME-1: SECRET may follow other frames; until it comes the session ends with its channel', (t) => {
  const late = new ResumingPeer();
  late.say('SERVICES, PING');
  late.giveSecret();
  late.resume();
  isAlive(t, late);

  const never = new ResumingPeer();
  never.say('SERVICES');
  never.lose();
  t.deepEqual(never.endings, ['channel-closed']);
  t.deepEqual(namedBy(never.connect().link), ['resume']);
});

test('R-RESUME-1: a HELLO names four sessions, newest first', (t) => {
  const peer = new ResumingPeer();
  const ids: string[] = [];
  for (let count = 0; count < 6; count += 1) {
    if (count > 0) connectAnew(peer);
    peer.giveSecret();
    ids.unshift(`resume:${peer.id}`);
  }
  t.deepEqual(namedBy(peer.connect().link), ['resume', ...ids.slice(0, 4)]);
});

// ---- R-RESUME-2: what is counted ----------------------------------------------------------------------------------------

const acks = (link: FramePeer): number[] =>
  link.log.take().flatMap(({ type, payload }) => (type === ACK ? [Number(payload.readBigUInt64BE())] : []));

/** Whether everything received is acknowledged within this time. */
function acknowledges(t: ExecutionContext, peer: ResumingPeer, ms = 200): void {
  peer.link.advance(ms);
  t.deepEqual(acks(peer.link), [peer.sent.length]);
}

test('R-RESUME-2: ACK comes once, 200 ms after the first byte that it covers, and counts all since the HELLOs', (t) => {
  const peer = ResumingPeer.resumable();
  peer.link.advance(150);
  peer.say('PING');
  peer.link.advance(49);
  t.deepEqual(acks(peer.link), []);
  acknowledges(t, peer, 1);
  peer.link.advance(5000);
  t.deepEqual(acks(peer.link), []);
  peer.say('PING');
  acknowledges(t, peer);
});

test('R-RESUME-2: skipped types and trailers count, and AUTH', (t) => {
  const proved = withKey({ integrity: 'frame' });
  proved.say('80 7 100, OPEN 1, DATA 1 trailed');
  acknowledges(t, proved);
  t.is(proved.sent[0], AUTH);
});

test('R-RESUME-2: magic and HELLO within the session do not count, wherever they are cut; nor do those of an earlier channel', (t) => {
  const peer = ResumingPeer.resumable();
  const earlier = peer.link.rawHello(peer.channel.own);
  peer.link.write(earlier);
  acknowledges(t, peer);
  for (let cut = 0; cut <= earlier.length; cut += 1) {
    const hello = peer.link.rawHello(peer.channel.own);
    peer.link.write(hello.subarray(0, cut));
    if (cut % 2 === 0) peer.link.write(hello.subarray(cut));
    peer.resume();
    t.is(peer.totalOf(peer.link), peer.sent.length, `${cut}`);
    isAlive(t, peer);
  }
  peer.link.write(earlier);
  t.true(peer.session.isSuspended);
});

test('R-RESUME-2: ACK comes at once after 131,072 bytes', (t) => {
  const peer = ResumingPeer.resumable({ limits: { streamCredit: 2 ** 20 } });
  peer.say('OPEN 1');
  peer.say(`DATA 1 ${131_071 - 16 - peer.sent.length}`);
  t.deepEqual([peer.sent.length, ...acks(peer.link)], [131_071]);
  peer.say('PING');
  acknowledges(t, peer, 0);
});

test('R-RESUME-2: ACKs alone are not acknowledged, and one that is not above the known total is ignored', (t) => {
  const peer = ResumingPeer.resumable();
  acknowledges(t, peer);
  const all = peer.received.length;
  for (const total of [0, 1, 2, all, all, 10, 0]) {
    peer.say(`ACK 0 ${total}`);
    peer.link.advance(300);
  }
  t.deepEqual(acks(peer.link), []);
  peer.say('PING');
  acknowledges(t, peer);
});

test('R-RESUME-2: ACK goes ahead of everything that waits, once, with the newest total', (t) => {
  const peer = ResumingPeer.resumable({ limits: { streamCredit: 2 ** 20 }, capacityBytes: 1000 });
  const { link } = peer;
  peer.say('OPEN 1, CREDIT 1 1048576');
  link.isReading = false;
  // Fills the channel, and the queue in front of it.
  link.sendFrom(1, 300_000);
  peer.say('PING, DATA 1 130000, DATA 1 130000, DATA 1 130000, DATA 1 130000');
  link.isReading = true;
  link.log.take();
  link.pump();
  const names = link.log.frames.map(({ name }) => name).filter((name) => name !== 'DATA');
  t.deepEqual(names.slice(0, 2), ['ACK', 'PONG']);
  t.deepEqual(acks(link), [peer.sent.length]);
});

// ---- R-RESUME-3 and R-RESUME-4: resuming --------------------------------------------------------------------------------

test('R-RESUME-1, R-RESUME-3: each side names the id of both SECRETs, proves that it has the session, and reports what it has received', (t) => {
  for (const isOdd of [true, false]) {
    const id = isOdd ? 1 : 2;
    const peer = ResumingPeer.resumable({ isOdd });
    peer.say(`OPEN ${id}`);
    const total = creditPayload(peer.sent.length);
    const { sequence, link, own, other } = suspended(peer);
    t.deepEqual(namedBy(link), ['resume', `resume:${peer.id}`]);
    t.regex(peer.id, /^[0-9a-f]{16}$/);
    const proof = hmacOf(peer.key, [Buffer.from('vproxy-resume-v1'), other, own, total]);
    t.deepEqual(link.log.frames.map(formatSeen), ['RESUME 0']);
    t.deepEqual(link.log.frames[0]?.payload, Buffer.concat([total, proof]));
    peer.goOn(sequence);
    peer.say(`DATA ${id} next`);
    t.is(peer.sessions.length, 1);
    isAlive(t, peer);
  }
});

test('R-RESUME-3: of several sessions the first one of the side with the greater nonce is resumed', (t) => {
  for (const isOdd of [true, false]) {
    const peer = new ResumingPeer({ isOdd });
    const ids = [0, 1, 2].map((count) => {
      if (count > 0) connectAnew(peer);
      peer.giveSecret();
      return `resume:${peer.id}`;
    });
    // The side under test names the newest first.
    const link = connectAnew(peer, { features: ['resume', 'resume:no', ...ids.slice(0, 2)] });
    t.deepEqual(link.log.take(), [], 'it has a channel');
    link.send(RESUME, 0, peer.resumePayload());
    t.false(has(link, RESUME), 'the key is that of the newest, which was not named');
    t.deepEqual(peer.abandoned, []);
  }
});

const has = ({ log }: FramePeer, wanted: number): boolean => log.frames.some(({ type }) => type === wanted);

type Send = (peer: ResumingPeer) => void;

const forged =
  (forge: (peer: ResumingPeer) => Buffer): Send =>
  (peer) =>
    peer.link.send(RESUME, 0, forge(peer));

const resumeFor = (hellos: (channel: Channel) => Partial<Channel>): Send =>
  forged((peer) => peer.resumePayload(0, { ...peer.channel, ...hellos(peer.channel) }));

const flipped = (at: number): Send =>
  forged((peer) => {
    const payload = peer.resumePayload();
    payload.writeUInt8(payload.readUInt8(at) ^ 1, at);
    return payload;
  });

const before =
  (frame: string): Send =>
  (peer) => {
    peer.link.say(frame);
    peer.link.send(RESUME, 0, peer.resumePayload());
  };

/** What a peer does on a channel that names a session, by the code with which the handshake fails. */
const WRONG: readonly (readonly [code: string, what: string, send: Send])[] = [
  ['auth-failed', 'a RESUME with a wrong proof', flipped(39)],
  ['auth-failed', 'a RESUME with another total than it proves', flipped(7)],
  ['auth-failed', 'a RESUME for another channel', resumeFor(() => ({ own: Buffer.from('earlier') }))],
  ['auth-failed', 'a RESUME with its HELLOs exchanged', resumeFor(({ own, other }) => ({ own: other, other: own }))],
  ['auth-failed', 'our own RESUME, sent back', forged(({ link }) => link.log.frames[0]?.payload ?? Buffer.alloc(40))],
  ['protocol-error', 'a RESUME that is too short', forged((peer) => peer.resumePayload().subarray(0, 39))],
  ['protocol-error', 'a RESUME that is too long', forged((peer) => Buffer.concat([peer.resumePayload(), EIGHT]))],
  ['protocol-error', 'an empty RESUME', forged(() => Buffer.alloc(0))],
  ...['PING', 'SERVICES', 'OPEN 1', 'DATA 1', 'SECRET', 'ACK', 'AUTH', '12'].map(
    (frame) => ['protocol-error', `${frame} before RESUME`, before(frame)] as const,
  ),
  ['internal', 'GOAWAY before RESUME', before('GOAWAY 0 internal')],
];

for (const [code, what, act] of WRONG) {
  test(`R-RESUME-3, R-RESUME-4: ${what} ends only the handshake, and does not take the session from its channel`, (t) => {
    const { peer, link, sequence } = suspended();
    act(peer);
    opensAgain(t, link, code);
    isStillThere(t, peer, sequence);

    const busy = ResumingPeer.resumable();
    const { channel } = busy;
    const { link: second } = busy.connect();
    act(busy);
    opensAgain(t, second, code);
    t.deepEqual(busy.abandoned, []);
    busy.channel = channel;
    isAlive(t, busy);
  });
}

test('R-RESUME-3: a repeated HELLO and skipped types may come before RESUME; a flush starts over', (t) => {
  const { peer, link, own, sequence } = suspended();
  link.write(link.rawHello(own));
  link.say('80 0 10');
  peer.goOn(sequence);
  isAlive(t, peer);

  const again = suspended(peer);
  again.link.write(Buffer.alloc(100));
  opensAgain(t, again.link, 'peer-restarted');
  isStillThere(t, peer, again.sequence);
});

test('R-RESUME-3: RESUME has 10 s to come', (t) => {
  const { peer, link, sequence } = suspended();
  link.advance(9999);
  t.deepEqual(link.codes, []);
  link.advance(1);
  opensAgain(t, link, 'auth-failed');
  isStillThere(t, peer, sequence);
});

/** The peer answers the newest HELLO on its channel. */
function answerOn(peer: ResumingPeer, features: readonly string[]): void {
  const { link } = peer;
  const own = Buffer.from(JSON.stringify({ ...link.helloFields, ack: link.otherNonce, features }));
  link.write(link.rawHello(own));
  peer.channel = { link, own, other: link.log.helloPayload };
}

test('R-RESUME-4: after a failure the same channel can be used again', (t) => {
  const { peer, link, sequence } = suspended();
  link.send(RESUME, 0, Buffer.alloc(40));
  opensAgain(t, link, 'auth-failed');
  link.renew();
  link.log.take();
  link.log.behindResume = { sequence: peer.receivedFrames + 1, begun: Buffer.alloc(0) };
  answerOn(peer, ['resume', `resume:${peer.id}`]);
  peer.goOn(sequence);
  isAlive(t, peer);
});

test('R-RESUME-4: a side whose session has a channel abandons that only for a valid RESUME, and answers then, or when it loses it', (t) => {
  const peer = ResumingPeer.resumable();
  const before = peer.channel;
  const { link } = peer.connect();
  link.advance(5000);
  t.deepEqual(link.log.take(), []);
  before.link.write(peer.link.rawHello(before.own));
  t.deepEqual(peer.abandoned, []);
  peer.goOn(before.link.sequence);
  t.deepEqual([before.link.loop.session, ...peer.abandoned], [null, 'channel-displaced']);
  isAlive(t, peer);
  peer.lose(before);
  isAlive(t, peer);

  const last = peer.channel;
  const { link: next } = peer.connect();
  t.deepEqual(next.log.frames, []);
  const sequence = peer.lose(last);
  next.pump();
  t.deepEqual(next.log.frames.map(formatSeen), ['RESUME 0']);
  peer.goOn(sequence);
  isAlive(t, peer);
});

for (const [what, total] of [
  ['above what was written', (peer: ResumingPeer) => peer.received.length + 1],
  ['below what was acknowledged', () => 10],
] as const) {
  test(`R-RESUME-4: a total ${what} is a protocol error of the session`, (t) => {
    const peer = withStream();
    const sink = peer.link.sinks.get(1);
    peer.say(`ACK 0 ${peer.received.length}`);
    const wrong = total(peer);
    const { link } = suspended(peer);
    link.send(RESUME, 0, peer.resumePayload(wrong));
    t.deepEqual([peer.endings, sink?.reason?.code], [['protocol-error'], 'protocol-error']);
    opensAgain(t, link, 'protocol-error');
    t.deepEqual(namedBy(link, -1), ['resume']);
  });
}

const [ONE, TWO] = ['1f', '2e'].map((digits) => SecretKey.parse(digits.repeat(32))) as [SecretKey, SecretKey];

const authFields = (...keys: readonly SecretKey[]): Readonly<Record<string, unknown>> => ({
  auth: { method: 'psk-sha256', keys: keys.map(({ id }) => id) },
});

/** A peer that names the session, and has a key. */
const namingWith = (peer: ResumingPeer, key: SecretKey): SaidAgain => ({
  fields: { features: ['resume', `resume:${peer.id}`], ...authFields(key) },
});

/** Sends the AUTH required on the newest channel. */
function prove({ channel: { link, own, other } }: ResumingPeer, key = ONE): Buffer {
  const bytes = hmacOf(Buffer.alloc(32, key === ONE ? 0x1f : 0x2e), [Buffer.from('vproxy-auth-v1'), own, other]);
  const frame = link.frame(AUTH, 0, bytes);
  link.write(frame);
  return frame;
}

/** A session between two sides that have proved a key, which is not the first one of this side. */
function withKey(options: ResumingPeerOptions = {}): ResumingPeer {
  const settings = { keys: () => [TWO, ONE] };
  const peer = new ResumingPeer({ ...options, settings }, { features: ['resume'], ...authFields(ONE, TWO) });
  peer.sent = prove(peer);
  peer.giveSecret();
  return peer;
}

test('R-RESUME-3: if a proof is required, AUTH comes before RESUME', (t) => {
  const peer = withKey();
  t.deepEqual(peer.link.takeTexts(), ['AUTH 0', 'SECRET 0', 'SERVICES 0', 'PING 0']);
  const { link, sequence } = suspended(peer, namingWith(peer, ONE));
  t.deepEqual(link.log.frames.map(formatSeen), ['AUTH 0']);
  prove(peer);
  t.deepEqual(link.log.frames.map(formatSeen), ['AUTH 0', 'RESUME 0']);
  peer.goOn(sequence);
  isAlive(t, peer);
});

for (const [what, code, key, send] of [
  ['a wrong AUTH', 'auth-failed', ONE, ({ link }) => link.say('AUTH')],
  ['RESUME without AUTH', 'protocol-error', ONE, forged((peer) => peer.resumePayload())],
  ['another key than that of the session', 'auth-failed', TWO, (peer) => prove(peer, TWO)],
] satisfies [string, string, SecretKey, (peer: ResumingPeer) => unknown][]) {
  test(`R-RESUME-3, R-RESUME-6: ${what} ends only the handshake`, (t) => {
    const peer = withKey();
    const { link, sequence } = suspended(peer, namingWith(peer, key));
    send(peer);
    t.false(has(link, RESUME));
    opensAgain(t, link, code);
    t.deepEqual([peer.endings, peer.sessions[0]?.isSuspended], [[], true]);
    peer.connect(namingWith(peer, ONE));
    prove(peer);
    peer.goOn(sequence);
    isAlive(t, peer);
  });
}

/** The HELLOs inside a fake TLS, after those in the clear. */
function openInside(peer: ResumingPeer, features: readonly string[]): void {
  const { link } = peer;
  const outer = [link.nonce, link.log.hellos[0]?.nonce].map((nonce) => `outer:${nonce}`);
  link.renew();
  answerOn(peer, [...outer, ...features]);
}

test('R-RESUME-1, R-RESUME-4: a session inside TLS is resumed, too, and named only there; after a failure the handshake starts in the clear', (t) => {
  const clear = { features: [], tls: true };
  const peer = new ResumingPeer({ settings: { secure: glassLayer(undefined, true) } }, clear);
  const named = (): readonly unknown[] => [namedBy(peer.link), namedBy(peer.link, -1)?.slice(2)];
  t.deepEqual(named(), [[], ['resume']]);
  openInside(peer, ['resume']);
  peer.giveSecret();
  const names = ['resume', `resume:${peer.id}`];
  const { sequence } = suspended(peer, { fields: clear });
  openInside(peer, names);
  t.deepEqual(named(), [[], names]);
  peer.link.send(RESUME, 0, Buffer.alloc(40));
  opensAgain(t, peer.link, 'auth-failed');
  t.true(peer.link.log.hellos.at(-1)?.tls);
  peer.connect({ fields: clear });
  openInside(peer, names);
  peer.goOn(sequence);
  isAlive(t, peer);
});

// ---- R-RESUME-5: continuing ---------------------------------------------------------------------------------------------

/** A resumable session with stream 1, which the peer opened, and much credit for it. */
function withStream(options: ResumingPeerOptions = {}): ResumingPeer {
  const limits = { streamCredit: 2 ** 20 };
  const peer = ResumingPeer.resumable({ limits, peerLimits: limits, ...options });
  peer.say('OPEN 1');
  return peer;
}

function sendData(peer: ResumingPeer, bytes: Buffer | string): void {
  peer.sessions[0]?.streams.list()[0]?.send(Buffer.from(bytes), 0, bytes.length, false);
  peer.link.pump();
}

const dataOf = (peer: ResumingPeer): string =>
  peer.link.log.frames.flatMap(({ type, payload }) => (type === DATA ? [payload.toString()] : [])).join('');

test('R-RESUME-5: each side continues exactly where the other one stands, at any byte, also within a frame', (t) => {
  const begun = (): ResumingPeer => {
    const peer = withStream();
    peer.link.log.take();
    sendData(peer, 'one and ');
    sendData(peer, 'two');
    return peer;
  };
  const end = begun().received.length;
  for (let hasBytes = end - 60; hasBytes <= end; hasBytes += 1) {
    const peer = begun();
    const frame = peer.link.frame(DATA, 1, Buffer.from('from the peer'));
    // This much of it comes before the channel is lost.
    peer.link.write(frame.subarray(0, hasBytes % (frame.length + 1)));
    peer.sent = Buffer.concat([peer.sent, frame]);
    peer.resume({ hasBytes });
    sendData(peer, ' and three');
    peer.say('FIN 1');
    peer.sessions[0]?.streams.list()[0]?.finish();
    t.is(dataIn(peer.received), 'one and two and three', `${hasBytes}`);
    t.deepEqual(peer.endings, []);
  }
});

function dataIn(bytes: Buffer): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 16 + bytes.readUInt32BE(at + 8)) {
    if (bytes[at] === DATA) text += bytes.toString('latin1', at + 16, at + 16 + bytes.readUInt32BE(at + 8));
  }
  return text;
}

test('R-RESUME-5: frames sent while there was no channel follow; OPEN, FIN and RESET come once', (t) => {
  const peer = withStream();
  const sequence = peer.lose();
  const { session } = peer;
  const finished = new RecordingSink();
  session.open('one', null, new RecordingSink()).reset('cancelled', '');
  session.open('two', null, finished).finish();
  sendData(peer, 'meanwhile');
  peer.connect();
  peer.goOn(sequence);
  const texts = peer.link.takeTexts().toSorted();
  t.deepEqual(texts, ['DATA 1 9', 'FIN 4', 'OPEN 2 one', 'OPEN 4 two', 'RESET 2 cancelled', 'RESUME 0']);
  peer.resume();
  t.deepEqual(peer.link.takeTexts(), ['RESUME 0']);
  peer.say('ACCEPT 4, FIN 4');
  t.deepEqual(finished.events, ['accept', 'fin', 'end']);
});

test('R-RESUME-5: acknowledged bytes are no longer kept; a side that keeps as much as it can sends no DATA', (t) => {
  const peer = withStream({ memoryBytes: 100_000 });
  const bytes = Buffer.alloc(40_000, 'x');
  for (let count = 0; count < 4; count += 1) sendData(peer, bytes);
  t.is(dataOf(peer).length, 120_000);
  peer.say('PING');
  t.true(peer.link.takeTexts().includes('PONG 0'), 'other frames go on');
  peer.say(`ACK 0 ${peer.received.length - 90_000}`);
  t.is(dataOf(peer).length, 40_000);
  sendData(peer, bytes);
  t.is(dataOf(peer).length, 40_000);
  // RESUME acknowledges like an ACK.
  peer.resume();
  t.is(dataOf(peer).length, 40_000);
});

test('R-RESUME-5: a peer that acknowledges nothing and asks for more and more is a flood', (t) => {
  const { link, endings } = withStream({ memoryBytes: 100_000 });
  // Each piece has a PONG of its own.
  for (let count = 0; count < 200_000 && endings.length === 0; count += 1) link.say('PING');
  t.deepEqual(endings, ['flood']);
  t.true(Buffer.concat(link.log.counted ?? []).length > 4 * 2 ** 20);
});

test('R-RESUME-5: the integrity, its tags and the limits stay those of the session, whatever the new HELLOs say', (t) => {
  const peer = withStream({ integrity: 'frame' });
  const check = new DataCheck('frame', peer.link.nonce, peer.link.otherNonce);
  const limits = { ...DEFAULT_LIMITS, frame: 4096, streamCredit: 1024, inFlight: 1024 };
  const features = ['resume', `resume:${peer.id}`];
  const { link, sequence } = suspended(peer, { fields: { features, limits, integrity: 'full' } });
  peer.goOn(sequence);
  peer.write(link.frame(DATA, 1, EIGHT, { trailer: check.trailerOf(sequence) }));
  t.deepEqual(peer.endings, []);
  // The log knows only the tags of its own channel.
  link.isReading = false;
  sendData(peer, Buffer.alloc(100_000));
  t.is(link.outbound.totalBytes, 16 + 100_000 + 4);
});

test('R-RESUME-5: the time limit of a frame starts over', (t) => {
  const peer = withStream();
  const frame = peer.link.frame(DATA, 1, Buffer.alloc(100));
  for (let at = 0; at < 30; at += 10) {
    peer.link.write(frame.subarray(at, at + 10));
    peer.link.advance(9000);
  }
  peer.sent = Buffer.concat([peer.sent, frame]);
  peer.resume();
  isAlive(t, peer);
});

// ---- R-RESUME-6: waiting, and its end -----------------------------------------------------------------------------------

test('R-RESUME-6: a session waits for 60 s, again after each channel, and ends with resume-expired', (t) => {
  const peer = withStream();
  const sink = peer.link.sinks.get(1);
  for (let count = 0; count < 3; count += 1) {
    const sequence = peer.lose();
    peer.clock.advance(59_999);
    isStillThere(t, peer, sequence);
    peer.link.advance(70_000);
  }
  peer.lose();
  peer.clock.advance(59_999);
  t.false(sink?.isOver);
  peer.clock.advance(1);
  t.deepEqual([peer.endings, sink?.reason?.code], [['resume-expired'], 'resume-expired']);
  t.deepEqual(namedBy(connectAnew(peer)), ['resume']);
});

test('R-RESUME-6: the time runs while a channel that names the session waits for RESUME; its handshake fails then', (t) => {
  const peer = ResumingPeer.resumable({ resumeMs: 5000 });
  peer.lose();
  peer.link.advance(3000);
  const { link } = peer.connect();
  link.advance(1999);
  t.deepEqual([peer.endings, link.log.frames.map(formatSeen)], [[], ['RESUME 0']]);
  link.advance(1);
  t.deepEqual(peer.endings, ['resume-expired']);
  opensAgain(t, link, 'resume-expired');
  t.deepEqual(namedBy(link, -1), ['resume']);
});

test('R-RESUME-6: silence suspends a session, and closes the channel', (t) => {
  const peer = ResumingPeer.resumable({ settings: { deadAfterMs: 30_000 } });
  peer.link.advance(29_000);
  t.deepEqual(peer.abandoned, []);
  peer.link.advance(4000);
  t.deepEqual(peer.abandoned, ['channel-silent']);
  const sequence = peer.lose();
  peer.clock.advance(50_000);
  isStillThere(t, peer, sequence);
});

for (const [what, code, frame] of [
  ['GOAWAY', 'internal', 'GOAWAY 0 internal'],
  ['a violation', 'protocol-error', 'FIN 2'],
] as const) {
  test(`R-RESUME-6: ${what} on an open channel ends the session, which is no longer named`, (t) => {
    const peer = withStream();
    peer.say(frame);
    peer.lose();
    t.deepEqual(peer.endings, [code]);
    t.deepEqual(namedBy(connectAnew(peer)), ['resume']);
  });
}

for (const [what, bytes] of [
  ['a wrong frame', Buffer.alloc(16, 7)],
  ['a flush', Buffer.alloc(16)],
  ['the start of a frame, and a flush', Buffer.concat([Buffer.from([DATA, 0]), Buffer.alloc(200)])],
] as const) {
  test(`R-RESUME-6: after ${what} the session waits, and is resumed on the same channel or on another one`, (t) => {
    for (const isReopened of [true, false]) {
      const peer = withStream();
      const { link } = peer;
      const { length } = link.log.hellos;
      link.write(Buffer.from(bytes));
      t.deepEqual([peer.session.isSuspended, ...peer.abandoned, ...peer.endings], [true]);
      t.false(has(link, GOAWAY));
      if (isReopened) {
        link.advance(125);
        t.deepEqual(namedBy(link, length), ['resume', `resume:${peer.id}`]);
      } else isStillThere(t, peer, peer.lose());
    }
  });
}

for (const [what, instance, code] of [
  ['the same process', 'abcdef01'.repeat(4), 'resume-refused'],
  ['another process', '10fedcba'.repeat(4), 'peer-restarted'],
] as const) {
  test(`R-RESUME-6: a session that ${what} begins ends the waiting one with ${code} (after AUTH if required), but none that has a channel`, (t) => {
    const peer = withStream();
    const sink = peer.link.sinks.get(1);
    peer.lose();
    connectAnew(peer, { instance });
    t.deepEqual([peer.endings, sink?.reason?.code, peer.sessions.length], [[code], code, 2]);
    t.is(peer.link.loop.session, peer.session);

    const proved = withKey();
    proved.lose();
    connectAnew(proved, { instance, ...authFields(ONE) });
    t.deepEqual(proved.endings, []);
    prove(proved);
    t.deepEqual(proved.endings, [code]);

    const busy = withStream();
    const { channel } = busy;
    connectAnew(busy, { instance });
    t.is(busy.sessions.length, 2);
    busy.channel = channel;
    isAlive(t, busy);
  });
}

/** R-RESUME-1 to R-RESUME-6: sessions that outlive their channels, and peers that do it wrong. */
import test, { type ExecutionContext } from 'ava';
import { DataCheck, FRAME_TYPE } from '../../lib/codec/header.js';
import type { Hello } from '../../lib/codec/hello.js';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { formatSeen } from '../helpers/frame-log.js';
import { creditPayload } from '../helpers/frame-maker.js';
import type { FramePeer } from '../helpers/frame-peer.js';
import { glassLayer } from '../helpers/glass-layer.js';
import { RecordingSink } from '../helpers/local-ends.js';
import {
  type Channel,
  hmacOf,
  ResumingPeer,
  type ResumingPeerOptions,
  type SaidAgain,
} from '../helpers/resuming-peer.js';

const { ACCEPT, ACK, AUTH, CREDIT, DATA, FIN, GOAWAY, OPEN, PING, PONG, RESUME, SECRET, SERVICES } = FRAME_TYPE;
const EIGHT = Buffer.from('12345678');

/** The session goes on on the newest channel: a stream that was opened before still echoes. */
function isAlive(t: ExecutionContext, peer: ResumingPeer): void {
  t.deepEqual(peer.endings, []);
  peer.link.log.take();
  peer.send(PING, 0, EIGHT);
  t.deepEqual(peer.link.takeTexts(), ['PONG 0']);
}

/** The session waits, and a peer that does it right takes it up. */
function isStillThere(t: ExecutionContext, peer: ResumingPeer, sequence: number): void {
  t.deepEqual(peer.endings, []);
  t.true(peer.sessions[0]?.isSuspended);
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

/** The side under test has given up what began on a channel, for a reason that it tells nobody, and opens it again after a while. */
function opensAgain(t: ExecutionContext, link: FramePeer, reason: string): void {
  const { length } = link.log.hellos;
  t.is(link.loop.session, null);
  t.deepEqual(link.codes, [reason]);
  t.false(link.log.take().some(({ type }) => type === GOAWAY));
  link.advance(125);
  t.is(link.log.hellos.length, length + 1);
  t.not(link.log.hellos.at(-1)?.nonce, link.log.hellos.at(-2)?.nonce);
}

const namedBy = (link: FramePeer): readonly string[] | undefined => ofResuming(link.log.hellos[0]);

/** What a HELLO has in `features`, without what has nothing to do with resuming. */
const ofResuming = (hello: Hello | undefined): readonly string[] | undefined =>
  hello?.features.filter((feature) => feature !== 'datagram');

// ---- R-RESUME-1: what both sides have --------------------------------------------------------------------------------

type Violation = readonly [what: string, send: (peer: ResumingPeer) => void];

test('R-RESUME-1: a side that can resume says so, and names nothing that it has not', (t) => {
  t.deepEqual(namedBy(new ResumingPeer().link), ['resume']);
  t.deepEqual(namedBy(new ResumingPeer({ settings: { resume: null } }).link), []);
});

test('R-RESUME-1: SECRET is the first frame, with 32 bytes that differ each time', (t) => {
  const secrets = [0, 1].map(() => {
    const frames = new ResumingPeer().link.log.take();
    t.deepEqual(frames.map(formatSeen), ['SECRET 0', 'SERVICES 0', 'PING 0']);
    return frames[0]?.payload;
  });
  t.is(secrets[0]?.length, 32);
  t.notDeepEqual(secrets[0], secrets[1]);
});

test('R-RESUME-1: the id is that of both SECRETs', (t) => {
  for (const isOdd of [true, false]) {
    const { peer, link } = suspended(ResumingPeer.resumable({ isOdd }));
    t.deepEqual(namedBy(link), ['resume', `resume:${peer.id}`]);
    t.regex(peer.id, /^[0-9a-f]{16}$/);
  }
});

for (const [what, settings, features] of [
  ['the peer cannot resume', {}, []],
  ['the peer names a session, and does not say that it can resume', {}, ['resume:0123456789abcdef']],
  ['this side cannot resume', { resume: null }, ['resume']],
] as const) {
  test(`R-RESUME-1: ${what}: no SECRET, and the session ends with its channel`, (t) => {
    const peer = new ResumingPeer({ settings }, { features });
    t.deepEqual(peer.link.takeTexts(), ['SERVICES 0', 'PING 0']);
    peer.link.advance(1000);
    t.deepEqual(peer.link.takeTexts(), [], 'nor an ACK');
    peer.lose();
    t.deepEqual(peer.endings, ['channel-closed']);
    for (const [type, bytes] of [[SECRET, 32] as const, [ACK, 8] as const]) {
      const other = new ResumingPeer({ settings }, { features });
      other.send(type, 0, Buffer.alloc(bytes));
      t.deepEqual(other.endings, ['protocol-error']);
    }
  });
}

for (const [what, send] of [
  ['R-RESUME-1: a second SECRET', (peer) => peer.send(SECRET, 0, peer.part)],
  ...[0, 31, 33].map((bytes): Violation => {
    return [`R-RESUME-1: a SECRET of ${bytes} bytes`, (peer) => peer.send(SECRET, 0, Buffer.alloc(bytes))];
  }),
  ...[0, 7, 9].map((bytes): Violation => {
    return [`R-RESUME-2: an ACK of ${bytes} bytes`, (peer) => peer.send(ACK, 0, Buffer.alloc(bytes))];
  }),
  [
    'R-RESUME-2: an ACK of one byte more than was written',
    (peer) => peer.send(ACK, 0, creditPayload(peer.received.length + 1)),
  ],
  ['R-RESUME-2: an ACK of all there is', (peer) => peer.send(ACK, 0, creditPayload(2n ** 64n - 1n))],
] satisfies Violation[]) {
  test(`${what} is a protocol error`, (t) => {
    const peer = what.includes('SECRET of') ? new ResumingPeer() : ResumingPeer.resumable();
    send(peer);
    t.deepEqual(peer.endings, ['protocol-error']);
    t.regex(peer.link.takeTexts().join(), /GOAWAY 0 protocol-error/);
  });
}

test('R-RESUME-1: SECRET may come behind other frames; until it came the session ends with its channel', (t) => {
  const late = new ResumingPeer();
  late.send(SERVICES, 0, { services: [] });
  late.send(PING, 0, EIGHT);
  late.giveSecret();
  late.resume();
  isAlive(t, late);

  const never = new ResumingPeer();
  never.send(SERVICES, 0, { services: [] });
  never.lose();
  t.deepEqual(never.endings, ['channel-closed']);
  t.deepEqual(namedBy(never.connect().link), ['resume']);
});

test('R-RESUME-1: a HELLO names four sessions, the newest first', (t) => {
  const peer = new ResumingPeer();
  const ids: string[] = [];
  for (let count = 0; count < 6; count += 1) {
    if (count > 0) peer.connect({ fields: { features: ['resume'] } });
    peer.giveSecret();
    ids.unshift(`resume:${peer.id}`);
  }
  t.deepEqual(namedBy(peer.connect().link), ['resume', ...ids.slice(0, 4)]);
});

/** TLS that protects nothing. */
const plainLayer = glassLayer(undefined, true);

test('R-RESUME-1: with TLS the HELLO in clear says nothing of sessions, and the one inside does', (t) => {
  const peer = new ResumingPeer({ settings: { secure: plainLayer } }, { features: [], tls: true });
  const [outer, ...inner] = peer.link.log.hellos.map(ofResuming).filter((_, index) => index !== 1);
  t.deepEqual(outer, []);
  t.deepEqual(inner[0]?.slice(2), ['resume']);
});

// ---- R-RESUME-2: what is counted ----------------------------------------------------------------------------------------

const acks = (link: FramePeer): number[] =>
  link.log.take().flatMap(({ type, payload }) => (type === ACK ? [Number(payload.readBigUInt64BE())] : []));

test('R-RESUME-2: ACK comes 200 ms after the first byte that it tells of, and counts all since the HELLOs', (t) => {
  const peer = ResumingPeer.resumable();
  peer.link.advance(150);
  peer.send(PING, 0, EIGHT);
  for (const [ms, isDue] of [
    [49, false],
    [1, true],
    [5000, false],
  ] as const) {
    peer.link.advance(ms);
    t.deepEqual(acks(peer.link), isDue ? [peer.sent.length] : []);
  }
  peer.send(PING, 0, EIGHT);
  peer.link.advance(200);
  t.deepEqual(acks(peer.link), [peer.sent.length]);
});

test('R-RESUME-2: skipped types and trailers count, and AUTH', (t) => {
  const peer = withKey({ integrity: 'frame' });
  peer.send(0x80, 7, Buffer.alloc(100));
  peer.send(OPEN, 1, { service: 'echo' });
  peer.send(DATA, 1, Buffer.from('trailed'));
  peer.link.advance(200);
  t.deepEqual(acks(peer.link), [peer.sent.length]);
  t.is(peer.sent.subarray(0, 1).readUInt8(), AUTH);
});

test('R-RESUME-2: magic and HELLO within the session do not count', (t) => {
  const peer = ResumingPeer.resumable();
  peer.link.write(peer.link.rawHello(peer.channel.own));
  peer.link.advance(200);
  t.deepEqual(acks(peer.link), [peer.sent.length]);
  peer.link.write(peer.link.rawHello(peer.channel.own).subarray(0, 50));
  peer.resume();
  t.is(peer.totalOf(peer.link), peer.sent.length);
  isAlive(t, peer);
});

test('R-RESUME-2: ACK comes at once when 131,072 bytes came', (t) => {
  const peer = ResumingPeer.resumable({ limits: { streamCredit: 2 ** 20 } });
  peer.send(OPEN, 1, { service: 'echo' });
  peer.write(peer.link.frame(DATA, 1, Buffer.alloc(131_072 - peer.sent.length - 17)));
  t.is(peer.sent.length, 131_071);
  t.deepEqual(acks(peer.link), []);
  peer.send(PING, 0, EIGHT);
  t.deepEqual(acks(peer.link), [peer.sent.length]);
});

test('R-RESUME-2: ACKs alone are not answered', (t) => {
  const peer = ResumingPeer.resumable();
  peer.link.advance(200);
  acks(peer.link);
  for (let count = 0; count < 10; count += 1) {
    peer.send(ACK, 0, creditPayload(count));
    peer.link.advance(300);
  }
  t.deepEqual(acks(peer.link), []);
  peer.send(PING, 0, EIGHT);
  peer.link.advance(200);
  t.deepEqual(acks(peer.link), [peer.sent.length]);
});

test('R-RESUME-2: ACK goes before all else that waits, once, with the newest total', (t) => {
  const peer = ResumingPeer.resumable({ limits: { streamCredit: 2 ** 20 }, capacityBytes: 1000 });
  peer.send(OPEN, 1, { service: 'echo' });
  peer.send(CREDIT, 1, creditPayload(2 ** 20));
  peer.link.isReading = false;
  // Fills the channel, and what may wait in front of it.
  peer.link.sendFrom(1, 300_000);
  peer.send(PING, 0, EIGHT);
  for (let count = 0; count < 4; count += 1) peer.send(DATA, 1, Buffer.alloc(130_000));
  peer.link.isReading = true;
  peer.link.log.take();
  peer.link.pump();
  const types = peer.link.log.frames.map(({ type }) => type).filter((type) => type !== DATA);
  t.deepEqual(types.slice(0, 2), [ACK, PONG]);
  t.deepEqual(acks(peer.link), [peer.sent.length]);
});

test('R-RESUME-2: a total that is not above the known one is ignored', (t) => {
  const peer = ResumingPeer.resumable();
  for (const total of [0, peer.received.length, peer.received.length, 10, 0]) peer.send(ACK, 0, creditPayload(total));
  isAlive(t, peer);
});

// ---- R-RESUME-3 and R-RESUME-4: taking it up ----------------------------------------------------------------------------

test('R-RESUME-3: each side proves that it has the session, and says what it has received', (t) => {
  for (const isOdd of [true, false]) {
    const peer = ResumingPeer.resumable({ isOdd });
    peer.send(OPEN, isOdd ? 1 : 2, { service: 'echo' });
    const total = creditPayload(peer.sent.length);
    const { sequence, link, own, other } = suspended(peer);
    t.deepEqual(link.log.frames.map(formatSeen), ['RESUME 0']);
    const proof = hmacOf(peer.key, [Buffer.from('vproxy-resume-v1'), other, own, total]);
    t.deepEqual(link.log.frames[0]?.payload, Buffer.concat([total, proof]));
    peer.goOn(sequence);
    peer.send(DATA, isOdd ? 1 : 2, Buffer.from('on the next channel'));
    t.is(peer.sessions.length, 1);
    isAlive(t, peer);
  }
});

test('R-RESUME-3: of several sessions it is the first one of the side with the greater nonce', (t) => {
  for (const isOdd of [true, false]) {
    const peer = new ResumingPeer({ isOdd });
    const ids = [0, 1, 2].map((count) => {
      if (count > 0) peer.connect({ fields: { features: ['resume'] } });
      peer.giveSecret();
      return `resume:${peer.id}`;
    });
    // The side under test names them the newest first.
    const { link } = peer.connect({ fields: { features: ['resume', 'resume:no', ...ids.slice(0, 2)] } });
    t.deepEqual(link.log.take(), [], 'it has a channel');
    link.write(link.frame(RESUME, 0, peer.resumePayload()));
    const isNewest = link.log.frames.some(({ type }) => type === RESUME);
    t.false(isNewest, 'the key is that of the newest, which was not named');
    t.deepEqual(peer.abandoned, []);
  }
});

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
  (type: number, payload: Buffer | object = EIGHT, streamId = 0): Send =>
  (peer) => {
    peer.link.send(type, streamId, payload);
    peer.link.send(RESUME, 0, peer.resumePayload());
  };

/** What a peer does on a channel that names a session, and the code that the opening fails with. */
const WRONG: readonly (readonly [what: string, code: string, send: Send])[] = [
  ['a RESUME with a wrong proof', 'auth-failed', flipped(39)],
  ['a RESUME with another total than it proves', 'auth-failed', flipped(7)],
  ['a RESUME for another channel', 'auth-failed', resumeFor(() => ({ own: Buffer.from('earlier') }))],
  [
    'a RESUME with the HELLOs the other way round',
    'auth-failed',
    resumeFor(({ own, other }) => ({ own: other, other: own })),
  ],
  ['a RESUME that is too short', 'protocol-error', forged((peer) => peer.resumePayload().subarray(0, 39))],
  [
    'a RESUME that is too long',
    'protocol-error',
    forged((peer) => Buffer.concat([peer.resumePayload(), Buffer.alloc(1)])),
  ],
  ['an empty RESUME', 'protocol-error', forged(() => Buffer.alloc(0))],
  ['the own RESUME, sent back', 'auth-failed', forged(({ link }) => link.log.frames[0]?.payload ?? Buffer.alloc(40))],
  ['a PING before RESUME', 'protocol-error', before(PING)],
  ['SERVICES before RESUME', 'protocol-error', before(SERVICES, { services: [] })],
  ['an OPEN before RESUME', 'protocol-error', before(OPEN, { service: 'echo' }, 1)],
  ['DATA before RESUME', 'protocol-error', before(DATA, EIGHT, 1)],
  ['SECRET before RESUME', 'protocol-error', before(SECRET, Buffer.alloc(32))],
  ['an ACK before RESUME', 'protocol-error', before(ACK)],
  ['AUTH that nobody asked for before RESUME', 'protocol-error', before(AUTH, Buffer.alloc(32))],
  ['a GOAWAY before RESUME', 'internal', before(GOAWAY, { code: 'internal', message: '', last: 0 })],
  ['type 12 before RESUME', 'protocol-error', before(0x12)],
];

for (const [what, code, send] of WRONG) {
  test(`R-RESUME-3: ${what} ends nothing but the opening`, (t) => {
    const { peer, link, sequence } = suspended();
    send(peer);
    opensAgain(t, link, code);
    isStillThere(t, peer, sequence);
  });

  test(`R-RESUME-4: ${what} does not take the session from the channel that it has`, (t) => {
    const peer = ResumingPeer.resumable();
    const { channel } = peer;
    const { link } = peer.connect();
    send(peer);
    opensAgain(t, link, code);
    t.deepEqual(peer.abandoned, []);
    peer.channel = channel;
    isAlive(t, peer);
  });
}

test('R-RESUME-3: a repeated HELLO and types that are skipped may come before RESUME; a flush begins again', (t) => {
  const { peer, link, own, sequence } = suspended();
  link.write(link.rawHello(own));
  link.send(0x80, 0, Buffer.alloc(10));
  peer.goOn(sequence);
  isAlive(t, peer);

  const again = suspended(peer);
  again.link.write(Buffer.alloc(100));
  opensAgain(t, again.link, 'peer-restarted');
  isStillThere(t, peer, again.sequence);
});

test('R-RESUME-3: RESUME has 10 s to come', (t) => {
  const { peer, link, sequence } = suspended();
  const { length } = link.log.hellos;
  link.advance(9999);
  t.is(link.log.hellos.length, length);
  link.advance(1);
  opensAgain(t, link, 'auth-failed');
  isStillThere(t, peer, sequence);
});

test('R-RESUME-4: behind a failure the same channel serves as well', (t) => {
  const { peer, link, sequence } = suspended();
  link.send(RESUME, 0, Buffer.alloc(40));
  opensAgain(t, link, 'auth-failed');
  link.renew();
  link.log.take();
  link.log.behindResume = { sequence: peer.receivedFrames + 1, begun: Buffer.alloc(0) };
  answerOn(peer, { features: ['resume', `resume:${peer.id}`] });
  peer.goOn(sequence);
  isAlive(t, peer);
});

/** The peer answers the newest HELLO on its channel. */
function answerOn(peer: ResumingPeer, fields: Readonly<Record<string, unknown>>): void {
  const { link } = peer;
  const own = Buffer.from(JSON.stringify({ ...link.helloFields, ack: link.otherNonce, ...fields }));
  link.write(link.rawHello(own));
  peer.channel = { link, own, other: link.log.helloPayload };
}

test('R-RESUME-4: a side whose session has a channel gives that up for a right RESUME only, and answers then', (t) => {
  const peer = ResumingPeer.resumable();
  const before = peer.channel;
  const { sequence } = before.link;
  const { link } = peer.connect();
  link.advance(5000);
  t.deepEqual(link.log.take(), []);
  before.link.write(peer.link.rawHello(before.own));
  t.deepEqual(peer.abandoned, []);
  peer.goOn(sequence);
  t.deepEqual(peer.abandoned, ['channel-displaced']);
  t.is(before.link.loop.session, null);
  isAlive(t, peer);
  peer.lose(before);
  isAlive(t, peer);
});

for (const [what, total] of [
  ['above what was written', (peer: ResumingPeer) => peer.received.length + 1],
  ['below what was acknowledged', () => 10],
] as const) {
  test(`R-RESUME-4: a total ${what} is a protocol error of the session`, (t) => {
    const peer = ResumingPeer.resumable();
    peer.send(OPEN, 1, { service: 'echo' });
    const sink = peer.link.sinks.get(1);
    peer.send(ACK, 0, creditPayload(peer.received.length));
    const wrong = total(peer);
    peer.lose();
    const { link } = peer.connect();
    link.send(RESUME, 0, peer.resumePayload(wrong));
    t.deepEqual(peer.endings, ['protocol-error']);
    t.is(sink?.reason?.code, 'protocol-error');
    opensAgain(t, link, 'protocol-error');
    t.deepEqual(ofResuming(link.log.hellos.at(-1)), ['resume']);
  });
}

const [ONE, TWO] = ['1f', '2e'].map((digits) => SecretKey.parse(digits.repeat(32))) as [SecretKey, SecretKey];

const authFields = (keyIds: readonly string[]): Readonly<Record<string, unknown>> => ({
  auth: { method: 'psk-sha256', keys: keyIds },
});

/** What names the session, and has a key. */
const namingWith = (peer: ResumingPeer, key: SecretKey): Readonly<Record<string, unknown>> => ({
  features: ['resume', `resume:${peer.id}`],
  ...authFields([key.id]),
});

/** What AUTH has to be on the newest channel. */
const authOf = ({ channel: { own, other } }: ResumingPeer, keyId: string): Buffer =>
  hmacOf(Buffer.alloc(32, keyId === ONE.id ? 0x1f : 0x2e), [Buffer.from('vproxy-auth-v1'), own, other]);

/** A session between two sides that have proved to have the first key. */
function withKey(options: ResumingPeerOptions = {}): ResumingPeer {
  const keys = [ONE, TWO];
  const peer = new ResumingPeer(
    { ...options, settings: { keys: () => keys } },
    { features: ['resume'], ...authFields([ONE.id, TWO.id]) },
  );
  peer.send(AUTH, 0, authOf(peer, ONE.id));
  peer.giveSecret();
  return peer;
}

test('R-RESUME-3: where a proof is demanded AUTH comes before RESUME', (t) => {
  const peer = withKey();
  t.deepEqual(peer.link.takeTexts(), ['AUTH 0', 'SECRET 0', 'SERVICES 0', 'PING 0']);
  const { link, sequence } = suspended(peer, { fields: namingWith(peer, ONE) });
  t.deepEqual(link.log.frames.map(formatSeen), ['AUTH 0']);
  link.send(AUTH, 0, authOf(peer, ONE.id));
  t.deepEqual(link.log.frames.map(formatSeen), ['AUTH 0', 'RESUME 0']);
  peer.goOn(sequence);
  isAlive(t, peer);
});

for (const [what, code, key, send] of [
  ['a wrong AUTH', 'auth-failed', ONE, ({ link }) => link.send(AUTH, 0, Buffer.alloc(32))],
  ['RESUME without AUTH', 'protocol-error', ONE, forged((peer) => peer.resumePayload())],
  ['another key than that of the session', 'auth-failed', TWO, (peer) => peer.link.send(AUTH, 0, authOf(peer, TWO.id))],
] satisfies [string, string, SecretKey, Send][]) {
  test(`R-RESUME-3: ${what} ends nothing but the opening`, (t) => {
    const peer = withKey();
    peer.lose();
    const { link } = peer.connect({ fields: namingWith(peer, key) });
    send(peer);
    t.false(link.log.frames.some(({ type }) => type === RESUME));
    opensAgain(t, link, code);
    t.deepEqual(peer.endings, []);
    t.true(peer.sessions[0]?.isSuspended);
  });
}

test('R-RESUME-4: a side whose session loses its channel meanwhile answers at once', (t) => {
  const peer = ResumingPeer.resumable();
  const before = peer.channel;
  const { link } = peer.connect();
  t.deepEqual(link.log.frames, []);
  const sequence = peer.lose(before);
  t.is(link.log.frames.length, 0);
  link.pump();
  t.deepEqual(link.log.frames.map(formatSeen), ['RESUME 0']);
  peer.goOn(sequence);
  isAlive(t, peer);
});

/** The HELLOs inside TLS that protects nothing, behind those in clear. */
function openInside(peer: ResumingPeer, features: readonly string[]): void {
  const { link } = peer;
  const outer = [link.nonce, link.log.hellos[0]?.nonce].map((nonce) => `outer:${nonce}`);
  link.renew();
  answerOn(peer, { features: [...outer, ...features] });
}

test('R-RESUME-4: within TLS a session is taken up as well, and behind a failure the channel is opened in clear', (t) => {
  const clear = { features: [], tls: true };
  const peer = new ResumingPeer({ settings: { secure: plainLayer } }, clear);
  openInside(peer, ['resume']);
  peer.giveSecret();
  const named = ['resume', `resume:${peer.id}`];
  const sequence = peer.lose();
  peer.connect({ fields: clear });
  openInside(peer, named);
  t.deepEqual(ofResuming(peer.link.log.hellos.at(-1))?.slice(2), named);
  peer.link.send(RESUME, 0, Buffer.alloc(40));
  opensAgain(t, peer.link, 'auth-failed');
  t.true(peer.link.log.hellos.at(-1)?.tls);
  peer.connect({ fields: clear });
  openInside(peer, named);
  peer.goOn(sequence);
  isAlive(t, peer);
});

// ---- R-RESUME-5: going on -----------------------------------------------------------------------------------------------

/** A resumable session with stream 1, which the peer opened, and much credit for it. */
function withStream(options: ResumingPeerOptions = {}): ResumingPeer {
  const limits = { streamCredit: 2 ** 20 };
  const peer = ResumingPeer.resumable({ limits, peerLimits: limits, ...options });
  peer.send(OPEN, 1, { service: 'echo' });
  return peer;
}

function sendData(peer: ResumingPeer, bytes: Buffer): void {
  peer.sessions[0]?.streams.list()[0]?.send(Buffer.from(bytes), 0, bytes.length, false);
  peer.link.pump();
}

const dataOf = (peer: ResumingPeer): string =>
  peer.link.log.frames.flatMap(({ type, payload }) => (type === DATA ? [payload.toString()] : [])).join('');

test('R-RESUME-5: each side goes on exactly where the other one is, at any byte, also within a frame', (t) => {
  const begun = (): ResumingPeer => {
    const peer = withStream();
    peer.link.log.take();
    sendData(peer, Buffer.from('one and '));
    sendData(peer, Buffer.from('two'));
    return peer;
  };
  const end = begun().received.length;
  for (let hasBytes = end - 60; hasBytes <= end; hasBytes += 1) {
    const peer = begun();
    const frame = peer.link.frame(DATA, 1, Buffer.from('from the peer'));
    const cut = hasBytes % (frame.length + 1);
    // So much of it comes before the channel is lost.
    peer.link.write(frame.subarray(0, cut));
    peer.sent = Buffer.concat([peer.sent, frame]);
    peer.resume({ hasBytes });
    sendData(peer, Buffer.from(' and three'));
    peer.send(FIN, 1);
    const [stream] = peer.sessions[0]?.streams.list() ?? [];
    stream?.finish();
    t.is(dataOfBytes(peer.received), 'one and two and three', `${hasBytes}`);
    t.deepEqual(peer.endings, []);
  }
});

function dataOfBytes(bytes: Buffer): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 16 + bytes.readUInt32BE(at + 8)) {
    if (bytes[at] === DATA) text += bytes.toString('latin1', at + 16, at + 16 + bytes.readUInt32BE(at + 8));
  }
  return text;
}

test('R-RESUME-5: what each side sent while there was no channel follows; OPEN, FIN and RESET come once', (t) => {
  const peer = withStream();
  const sequence = peer.lose();
  const [session] = peer.sessions;
  const [reset, finished] = [new RecordingSink(), new RecordingSink()];
  session?.open('one', null, reset).reset('cancelled', '');
  session?.open('two', null, finished).finish();
  sendData(peer, Buffer.from('meanwhile'));
  peer.connect();
  peer.goOn(sequence);
  const texts = peer.link.takeTexts().filter((text) => text !== 'RESUME 0');
  t.deepEqual(texts.toSorted(), ['DATA 1 9', 'FIN 4', 'OPEN 2 one', 'OPEN 4 two', 'RESET 2 cancelled']);
  peer.resume();
  t.deepEqual(peer.link.takeTexts(), ['RESUME 0']);
  peer.send(ACCEPT, 4);
  peer.send(FIN, 4);
  t.deepEqual(finished.events, ['accept', 'fin', 'end']);
});

test('R-RESUME-5: what the peer has acknowledged is kept no more; with as much kept as it bears a side sends no DATA', (t) => {
  const peer = withStream({ memoryBytes: 100_000 });
  const bytes = Buffer.alloc(40_000, 'x');
  for (let count = 0; count < 4; count += 1) sendData(peer, bytes);
  t.is(dataOf(peer).length, 120_000);
  peer.send(PING, 0, EIGHT);
  t.true(peer.link.takeTexts().includes('PONG 0'), 'other frames go on');
  peer.send(ACK, 0, creditPayload(peer.received.length - 90_000));
  t.is(dataOf(peer).length, 40_000);
  sendData(peer, bytes);
  t.is(dataOf(peer).length, 40_000);
  // RESUME says as much as an ACK.
  peer.resume();
  t.is(dataOf(peer).length, 40_000);
});

test('R-RESUME-5: a peer that acknowledges nothing and asks for more and more is flood', (t) => {
  const peer = withStream({ memoryBytes: 100_000 });
  const pings = (count: number): Buffer =>
    Buffer.concat(Array.from({ length: count }, () => peer.link.frame(PING, 0, EIGHT)));
  // Each piece has a PONG of its own.
  for (let count = 0; count < 200_000 && peer.endings.length === 0; count += 1) peer.link.write(pings(1));
  t.deepEqual(peer.endings, ['flood']);
  t.true(Buffer.concat(peer.link.log.counted ?? []).length > 4 * 2 ** 20);
});

test('R-RESUME-5: the integrity, its tags and the limits are those of the session, whatever the new HELLOs say', (t) => {
  const peer = withStream({ integrity: 'frame' });
  const check = new DataCheck('frame', peer.link.nonce, peer.link.otherNonce);
  const sequence = peer.lose();
  const limits = { ...DEFAULT_LIMITS, frame: 4096, streamCredit: 1024, inFlight: 1024 };
  const features = ['resume', `resume:${peer.id}`];
  const { link } = peer.connect({ fields: { features, limits, integrity: 'full' } });
  peer.goOn(sequence);
  const frame = link.frame(DATA, 1, EIGHT, { trailer: check.trailerOf(sequence) });
  peer.write(frame);
  t.deepEqual(peer.endings, []);
  // The log knows only the tags of its own channel.
  link.isReading = false;
  sendData(peer, Buffer.alloc(100_000));
  t.is(link.outbound.totalBytes, 16 + 100_000 + 4);
});

test('R-RESUME-5: the time that a frame may take begins anew', (t) => {
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
    t.true(peer.sessions[0]?.isSuspended);
    peer.clock.advance(59_999);
    peer.connect();
    peer.goOn(sequence);
    peer.link.advance(70_000);
    isAlive(t, peer);
  }
  peer.lose();
  peer.clock.advance(59_999);
  t.false(sink?.isOver);
  peer.clock.advance(1);
  t.deepEqual(peer.endings, ['resume-expired']);
  t.is(sink?.reason?.code, 'resume-expired');
  t.deepEqual(namedBy(peer.connect({ fields: { features: ['resume'] } }).link), ['resume']);
});

test('R-RESUME-6: the time runs while a channel that names the session waits for RESUME, whose opening fails then', (t) => {
  const peer = ResumingPeer.resumable({ resumeMs: 5000 });
  peer.lose();
  peer.link.advance(3000);
  const { link } = peer.connect();
  t.deepEqual(link.log.frames.map(formatSeen), ['RESUME 0']);
  link.advance(1999);
  t.deepEqual(peer.endings, []);
  link.advance(1);
  t.deepEqual(peer.endings, ['resume-expired']);
  opensAgain(t, link, 'resume-expired');
  t.deepEqual(ofResuming(link.log.hellos.at(-1)), ['resume']);
});

test('R-RESUME-6: silence suspends a session, and closes the channel', (t) => {
  const peer = ResumingPeer.resumable({ settings: { deadAfterMs: 30_000 } });
  peer.link.advance(29_000);
  t.deepEqual(peer.abandoned, []);
  peer.link.advance(4000);
  t.deepEqual(peer.abandoned, ['channel-silent']);
  const { sequence } = peer.link;
  peer.lose();
  peer.clock.advance(50_000);
  isStillThere(t, peer, sequence);
});

test('R-RESUME-6: a session that drains is suspended too', (t) => {
  const peer = withStream();
  peer.send(GOAWAY, 0, { code: 'shutdown', message: '', last: 2 ** 32 - 1 });
  peer.resume();
  sendData(peer, Buffer.from('the last'));
  t.deepEqual(dataOf(peer), 'the last');
  isAlive(t, peer);
});

for (const [what, code, act] of [
  ['GOAWAY', 'internal', (peer: ResumingPeer) => peer.send(GOAWAY, 0, { code: 'internal', message: '', last: 0 })],
  ['a violation', 'protocol-error', (peer: ResumingPeer) => peer.send(PONG, 0, Buffer.alloc(9))],
] as const) {
  test(`R-RESUME-6: ${what} on an open channel ends the session, which is named no more`, (t) => {
    const peer = withStream();
    act(peer);
    t.deepEqual(peer.endings, [code]);
    peer.lose();
    t.deepEqual(peer.endings, [code]);
    t.deepEqual(namedBy(peer.connect({ fields: { features: ['resume'] } }).link), ['resume']);
  });
}

for (const [what, bytes] of [
  ['a wrong frame', Buffer.alloc(16, 7)],
  ['a flush', Buffer.alloc(16)],
  ['the beginning of a frame, and a flush', Buffer.concat([Buffer.from([DATA, 0]), Buffer.alloc(200)])],
] as const) {
  test(`R-RESUME-6: behind ${what} the session waits: the channel is opened again to go on with it, or it goes on with another one`, (t) => {
    for (const isReopened of [true, false]) {
      const peer = withStream();
      const { link, session } = peer;
      const { sequence } = link;
      const { length } = link.log.hellos;
      link.write(Buffer.from(bytes));
      t.true(session.isSuspended);
      t.deepEqual([...peer.abandoned, ...peer.endings], []);
      t.false(link.log.take().some(({ type }) => type === GOAWAY));
      if (isReopened) {
        link.advance(125);
        t.deepEqual(ofResuming(link.log.hellos[length]), ['resume', `resume:${peer.id}`]);
      } else {
        peer.lose();
        isStillThere(t, peer, sequence);
      }
    }
  });
}

for (const [what, instance, code] of [
  ['the same process', 'abcdef01'.repeat(4), 'resume-refused'],
  ['another process', '10fedcba'.repeat(4), 'peer-restarted'],
] as const) {
  test(`R-RESUME-6: a session that ${what} begins ends the one that waits with ${code}, where a proof is demanded behind AUTH`, (t) => {
    const peer = withStream();
    const sink = peer.link.sinks.get(1);
    suspended(peer, { fields: { features: ['resume'], instance } });
    t.deepEqual([peer.endings, sink?.reason?.code], [[code], code]);
    t.is(peer.sessions.length, 2);
    t.is(peer.link.loop.session, peer.sessions[1] ?? null);

    const proved = withKey();
    suspended(proved, { fields: { features: ['resume'], instance, ...authFields([ONE.id]) } });
    t.deepEqual(proved.endings, []);
    proved.link.send(AUTH, 0, authOf(proved, ONE.id));
    t.deepEqual(proved.endings, [code]);
  });
}

test('R-RESUME-6: who cannot prove that it has the key ends no session that waits', (t) => {
  const peer = withKey();
  const sequence = peer.lose();
  const { link } = peer.connect({ fields: { features: ['resume'], ...authFields([ONE.id]) } });
  link.send(AUTH, 0, Buffer.alloc(32));
  const again = peer.connect({ fields: namingWith(peer, ONE) });
  again.link.send(AUTH, 0, authOf(peer, ONE.id));
  peer.goOn(sequence);
  isAlive(t, peer);
});

test('R-RESUME-6: a session that has a channel is not ended by another one beside it', (t) => {
  const peer = withStream();
  const before = peer.channel;
  peer.connect({ fields: { features: ['resume'], instance: '10fedcba'.repeat(4) } });
  t.is(peer.sessions.length, 2);
  peer.channel = before;
  isAlive(t, peer);
});

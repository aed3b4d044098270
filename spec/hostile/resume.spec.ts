/** Hostile peers of sessions that outlive their links, frame by frame: what they can end is their own session, and what they can make a side keep is bounded. */
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { VproxyError } from '../../lib/errors.js';
import { FairBudget } from '../../lib/util/bounds.js';
import { creditPayload } from '../helpers/frame-maker.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { ResumingPeer } from '../helpers/resuming-peer.js';

const { ACCEPT, ACK, AUTH, CREDIT, DATA, GOAWAY, OPEN, PING, RESUME, SECRET } = FRAME_TYPE;

/** A key that is nobody's. */
const WRONG_KEY = Buffer.alloc(32, 'x');

/** A session that has no link, in which the peer has stream 1. */
interface Suspended {
  readonly peer: ResumingPeer;
  /** What came of stream 1. */
  readonly sink: RecordingSink;
  /** The number of the next frame that the peer sends in the session. */
  readonly sequence: number;
}

/** 5 bytes of stream 1 have come, and 5 of the answer are lost on the way. */
function suspended(): Suspended {
  const peer = ResumingPeer.resumable();
  peer.send(OPEN, 1, { service: 'echo' });
  peer.send(DATA, 1, Buffer.from('first'));
  const { streams, sinks } = peer.link;
  const sink = sinks.get(1);
  if (sink === undefined) throw new Error('stream 1 was not opened');
  streams.get(1)?.send(Buffer.from('reply'), 0, 5, false);
  return { peer, sink, sequence: peer.lose() };
}

/** The peer comes after all, and all is there as it was left. */
function resumesAfterAll(t: ExecutionContext, { peer, sink, sequence }: Suspended): void {
  const { session } = peer;
  peer.connect();
  t.is(peer.totalOf(peer.link), peer.sent.length);
  peer.goOn(sequence);
  t.true(peer.link.loop.session === session);
  t.true(peer.link.takeTexts().includes('DATA 1 5'));
  peer.send(DATA, 1, Buffer.from(', second'));
  t.is(sink.bytes.toString(), 'first, second');
  peer.send(PING, 0, Buffer.alloc(8));
  t.true(peer.link.takeTexts().includes('PONG 0'));
}

/** Loses the link, and begins another session on the next one. */
function beginsAnew(peer: ResumingPeer, features: readonly string[] = ['resume']): void {
  peer.lose();
  peer.connect({ fields: { features } });
  peer.giveSecret();
}

function acknowledge(peer: ResumingPeer, totalBytes = peer.received.length): void {
  peer.send(ACK, 0, creditPayload(totalBytes));
}

test('a session goes on for a peer that keeps to the rules', (t) => {
  const waiting = suspended();
  resumesAfterAll(t, waiting);
  t.deepEqual(waiting.peer.allEndings, []);
});

for (const [what, code, type, payload] of [
  ['an ACK of more than was sent', 'protocol-error', ACK, creditPayload(100_000)],
  ['an ACK of 2^64-1', 'protocol-error', ACK, creditPayload(2n ** 64n - 1n)],
  ['an ACK of 7 bytes', 'protocol-error', ACK, Buffer.alloc(7)],
  ['an ACK of 9 bytes', 'protocol-error', ACK, Buffer.alloc(9)],
  ['an empty ACK', 'protocol-error', ACK, Buffer.alloc(0)],
  ['a second SECRET', 'protocol-error', SECRET, Buffer.alloc(32, 't')],
  ['a SECRET of 31 bytes', 'protocol-error', SECRET, Buffer.alloc(31)],
  ['a SECRET of 4,096 bytes', 'protocol-error', SECRET, Buffer.alloc(4096)],
  ['RESUME in an open session', 'protocol-error', RESUME, Buffer.alloc(40)],
  ['RESUME of 41 bytes in an open session', 'protocol-error', RESUME, Buffer.alloc(41)],
] as const) {
  test(`${what} ends the session with ${code}, and nothing of it is kept`, (t) => {
    const peer = ResumingPeer.resumable();
    peer.send(type, 0, payload);
    t.deepEqual(peer.allEndings, [code]);
    t.deepEqual(peer.kept.named([]), []);
    t.true(peer.link.takeTexts()[0]?.startsWith('GOAWAY'));
  });
}

for (const [what, type, length] of [
  ['SECRET', SECRET, 32],
  ['ACK', ACK, 8],
] as const) {
  test(`${what} where no resuming was agreed ends the session with protocol-error`, (t) => {
    const peer = new ResumingPeer({}, { features: [] });
    peer.send(type, 0, Buffer.alloc(length));
    t.deepEqual(peer.allEndings, ['protocol-error']);
  });
}

test('an ACK that says less than the last one means nothing', (t) => {
  const peer = ResumingPeer.resumable();
  acknowledge(peer);
  for (const totalBytes of [0, 1, 47]) acknowledge(peer, totalBytes);
  t.deepEqual(peer.allEndings, []);
  peer.send(PING, 0, Buffer.alloc(8));
  acknowledge(peer);
  t.deepEqual(peer.allEndings, []);
});

test('a flood of ACKs is answered by nothing, and holds no memory', (t) => {
  const peer = ResumingPeer.resumable();
  const { session, link } = peer;
  link.takeTexts();
  const ack = creditPayload(peer.received.length);
  for (let batch = 0; batch < 100; batch += 1)
    peer.write(Buffer.concat(Array.from({ length: 1000 }, () => link.frame(ACK, 0, ack))));
  link.advance(5000);
  // What came before the flood is acknowledged once; nothing comes behind that, and one PING asks whether it is lost (R-LIVE-4).
  t.deepEqual(link.takeTexts(), ['ACK 0', 'PING 0']);
  t.is(session.unwrittenBytes, 0);
  t.deepEqual(peer.allEndings, []);
});

test('a flood of PINGs from a peer that acknowledges nothing ends the session, when so much is kept as nobody needs', (t) => {
  const peer = ResumingPeer.resumable({ memoryBytes: 100_000 });
  const { link } = peer;
  let pings = 0;
  for (; peer.allEndings.length === 0 && pings < 1_000_000; pings += 1) {
    // Each is answered by itself.
    link.loop.receive(link.frame(PING, 0, Buffer.alloc(8)));
    link.outbound.clear();
  }
  t.deepEqual(peer.allEndings, ['flood']);
  const keptBytes = pings * 24;
  t.true(keptBytes > 4 * 2 ** 20 && keptBytes < 5 * 2 ** 20, `${keptBytes}`);
});

test('a peer that acknowledges nothing stalls data at what may be kept, and nothing else', (t) => {
  const memoryBytes = 300_000;
  const peer = ResumingPeer.resumable({ memoryBytes });
  const { session, clock } = peer;
  peer.send(CREDIT, 0, creditPayload(2 ** 40));
  const stream = session.open('source', null, new RecordingSink());
  peer.send(ACCEPT, stream.id);
  peer.send(CREDIT, stream.id, creditPayload(2 ** 40));
  stream.send(Buffer.alloc(2_000_000, 'd'), 0, 2_000_000, false);
  const sentBytes = (): number => stream.sentBytes;
  const stalledAt = sentBytes();
  t.true(stalledAt <= memoryBytes + 131_072 && stalledAt > memoryBytes - 131_072, `${stalledAt}`);
  for (let second = 0; second < 600; second += 1) {
    clock.advance(1000);
    peer.send(PING, 0, Buffer.alloc(8));
    t.is(peer.link.takeTexts().at(-1), 'PONG 0');
  }
  session.setServices(['new']);
  peer.link.pump();
  t.true(peer.link.takeTexts().includes('SERVICES 0'));
  t.is(sentBytes(), stalledAt);
  t.deepEqual(peer.allEndings, []);
  // Without a link no more is kept, either.
  const sequence = peer.lose();
  peer.connect();
  t.is(sentBytes(), stalledAt);
  peer.goOn(sequence);
  for (let round = 0; round < 100 && sentBytes() < 2_000_000; round += 1) acknowledge(peer);
  t.is(sentBytes(), 2_000_000);
});

test('many peers that acknowledge nothing make a process keep what all may together, and no peer stops another one', (t) => {
  const budget = new FairBudget(16 * 2 ** 20);
  const LARGE_BYTES = 3 * 2 ** 20;
  const sent: (() => number)[] = [];
  const sendTo = (): ResumingPeer => {
    const peer = ResumingPeer.resumable({ memoryBytes: 4 * 2 ** 20, budget });
    peer.send(CREDIT, 0, creditPayload(2 ** 40));
    const stream = peer.session.open('source', null, new RecordingSink());
    peer.send(ACCEPT, stream.id);
    peer.send(CREDIT, stream.id, creditPayload(2 ** 40));
    stream.send(Buffer.alloc(LARGE_BYTES, 'd'), 0, LARGE_BYTES, false);
    sent.push(() => stream.sentBytes);
    return peer;
  };
  const silent = Array.from({ length: 40 }, sendTo);
  const sentBytes = (): number => sent.reduce((sum, bytes) => sum + bytes(), 0);
  t.is(sent[0]?.(), LARGE_BYTES);
  t.true(sentBytes() < 16 * 2 ** 20 + 40 * (262_144 + 131_072), `${sentBytes()}`);
  const heard = sendTo();
  const ofHeard = sent.at(-1) as () => number;
  t.true(ofHeard() >= 262_144);
  for (let round = 0; round < 100 && ofHeard() < LARGE_BYTES; round += 1) acknowledge(heard);
  t.is(ofHeard(), LARGE_BYTES);
  // Those that waited lose nothing: with an answer the rest goes on.
  for (let round = 0; round < 100 && sentBytes() < 41 * LARGE_BYTES; round += 1)
    for (const peer of silent) acknowledge(peer);
  t.is(sentBytes(), 41 * LARGE_BYTES);
  for (const peer of [...silent, heard]) {
    t.deepEqual(peer.allEndings, []);
    peer.session.end(new VproxyError('shutdown', 'enough'));
    peer.link.pump();
  }
  t.is(budget.usedBytes, 0);
});

test('a peer that wants all again and again gets what is kept each time, and no more is kept', (t) => {
  const peer = ResumingPeer.resumable();
  peer.send(OPEN, 1, { service: 'echo' });
  peer.link.streams.get(1)?.send(Buffer.alloc(60_000, 'd'), 0, 60_000, false);
  peer.link.pump();
  const keptBytes = peer.received.length;
  for (let again = 0; again < 50; again += 1) {
    peer.resume({ hasBytes: 0 });
    t.is(peer.received.length, keptBytes);
  }
  t.deepEqual(peer.allEndings, []);
  // What it has acknowledged is not there any more.
  acknowledge(peer);
  peer.lose();
  peer.connect({ hasBytes: 0 });
  peer.link.send(RESUME, 0, peer.resumePayload());
  t.deepEqual(peer.allEndings, ['protocol-error']);
  t.deepEqual(peer.kept.named([]), []);
});

test('a peer that says it has what was never sent ends its session', (t) => {
  const peer = ResumingPeer.resumable();
  peer.send(OPEN, 1, { service: 'echo' });
  const sink = peer.link.sinks.get(1);
  // All that was sent has come.
  const receivedBytes = peer.received.length;
  peer.lose();
  peer.connect();
  peer.link.send(RESUME, 0, peer.resumePayload(receivedBytes + 1));
  t.deepEqual(peer.allEndings, ['protocol-error']);
  t.is(sink?.reason?.code, 'protocol-error');
});

/** What a peer may do on a link where the session that waits is not to be touched by it. */
const ATTEMPTS: readonly (readonly [string, (peer: ResumingPeer) => void])[] = [
  ['a wrong proof', (peer) => peer.link.send(RESUME, 0, wrongProof(peer))],
  ['a proof of zeros', ({ link }) => link.send(RESUME, 0, Buffer.alloc(40))],
  ['RESUME of 39 bytes', ({ link }) => link.send(RESUME, 0, Buffer.alloc(39))],
  ['RESUME of 4,096 bytes', ({ link }) => link.send(RESUME, 0, Buffer.alloc(4096))],
  ['the RESUME of the side itself', ({ link }) => link.send(RESUME, 0, link.log.frames[0]?.payload)],
  ['a proof with another number', (peer) => peer.link.send(RESUME, 0, changed(peer.resumePayload()))],
  ['AUTH that nobody demanded', ({ link }) => link.send(AUTH, 0, Buffer.alloc(32))],
  ['DATA', ({ link }) => link.send(DATA, 1, Buffer.from('x'))],
  ['a frame of the session', ({ link }) => link.send(PING, 0, Buffer.alloc(8))],
  ['SECRET', ({ link }) => link.send(SECRET, 0, Buffer.alloc(32))],
  ['ACK', ({ link }) => link.send(ACK, 0, Buffer.alloc(8))],
  ['GOAWAY', ({ link }) => link.send(GOAWAY, 0, { code: 'denied', message: '', last: 0 })],
  ['a wrong check', ({ link }) => link.send(PING, 0, Buffer.alloc(8), { hasWrongCheck: true })],
  ['the flush of another opening', ({ link }) => link.write(Buffer.alloc(1000))],
  ['nothing', ({ link }) => link.advance(10_000)],
  ['half a RESUME, and nothing', (peer) => stalls(peer)],
];

const wrongProof = (peer: ResumingPeer): Buffer => peer.resumePayload(peer.received.length, peer.channel, WRONG_KEY);

/** The payload of a RESUME whose number is another one. */
function changed(payload: Buffer): Buffer {
  payload.writeUInt8(payload.readUInt8(7) ^ 1, 7);
  return payload;
}

function stalls(peer: ResumingPeer): void {
  peer.link.write(peer.link.frame(RESUME, 0, peer.resumePayload()).subarray(0, 30));
  peer.link.advance(10_000);
}

for (const [what, act] of ATTEMPTS) {
  test(`${what} in place of a proof fails the link, and the session waits on`, (t) => {
    const waiting = suspended();
    const { peer } = waiting;
    peer.connect();
    t.deepEqual(
      peer.link.log.frames.map(({ type }) => type),
      [RESUME],
    );
    t.false(peer.link.loop.session?.isReady ?? false);
    act(peer);
    t.is(peer.allEndings.length, 1);
    t.regex(peer.allEndings[0] ?? '', /^opening: /);
    t.true(peer.session.isSuspended);
    peer.lose();
    resumesAfterAll(t, waiting);
  });
}

test('wrong proofs again and again leave nothing behind', (t) => {
  const waiting = suspended();
  const { peer } = waiting;
  const { session, clock } = peer;
  const held = () => [clock.pending, session.listenerCount('suspended'), session.listenerCount('end')];
  const before = held();
  for (let attempt = 0; attempt < 300; attempt += 1) {
    peer.connect();
    peer.link.send(RESUME, 0, wrongProof(peer));
    peer.lose();
  }
  t.deepEqual(held(), before);
  t.deepEqual(new Set(peer.allEndings), new Set(['opening: auth-failed']));
  resumesAfterAll(t, waiting);
});

test('ids that nobody knows, four or a hundred of them, begin a session like any', (t) => {
  for (const count of [4, 100]) {
    const { peer } = suspended();
    const ids = Array.from({ length: count }, (_, index) => `resume:${String(index).padStart(16, '0')}`);
    beginsAnew(peer, ['resume', ...ids]);
    t.true(peer.link.loop.session?.isReady);
    t.deepEqual(peer.allEndings, ['resume-refused']);
  }
});

test('a session is found behind three that are not known', (t) => {
  const { peer } = suspended();
  const ids = ['0'.repeat(16), '1'.repeat(16), '2'.repeat(16), peer.id];
  peer.connect({ fields: { features: ['resume', ...ids.map((id) => `resume:${id}`)] } });
  t.is(peer.link.log.frames[0]?.type, RESUME);
});

test('a session of another channel is not taken up, and not ended', (t) => {
  const waiting = suspended();
  const { peer } = waiting;
  const other = new ResumingPeer({}, { features: ['resume', `resume:${peer.id}`] });
  other.giveSecret();
  t.true(other.session.isReady);
  t.true(peer.session.isSuspended);
  resumesAfterAll(t, waiting);
});

test('RESUME twice ends the session that goes on', (t) => {
  const { peer, sequence } = suspended();
  peer.connect();
  peer.goOn(sequence);
  peer.send(RESUME, 0, Buffer.alloc(40));
  t.deepEqual(peer.allEndings, ['protocol-error']);
});

test('RESUME twice with the number of another frame is no frame of the session, which waits', (t) => {
  const waiting = suspended();
  const { peer, sequence } = waiting;
  peer.connect();
  peer.goOn(sequence);
  const next = peer.link.sequence;
  peer.link.send(RESUME, 0, peer.resumePayload(), { sequence: 2 });
  t.deepEqual(peer.allEndings, []);
  t.true(peer.session.isSuspended);
  peer.lose();
  peer.connect();
  peer.goOn(next);
  peer.send(DATA, 1, Buffer.from(', second'));
  t.is(waiting.sink.bytes.toString(), 'first, second');
});

test('a stranger on a second link, who knows the id of an open session, ends nothing', (t) => {
  const peer = ResumingPeer.resumable();
  const { channel: own, clock } = peer;
  const { link } = peer.connect();
  t.deepEqual(link.log.frames, []);
  clock.advance(9999);
  t.deepEqual(peer.allEndings, []);
  clock.advance(1);
  t.deepEqual(peer.allEndings, ['opening: auth-failed']);
  peer.channel = own;
  peer.send(PING, 0, Buffer.alloc(8));
  t.true(peer.link.takeTexts().includes('PONG 0'));
  t.deepEqual(peer.abandoned, []);
});

test('a peer that proves itself on a second link takes its session there', (t) => {
  const peer = ResumingPeer.resumable();
  const { session, link: first } = peer;
  peer.connect();
  peer.goOn(first.sequence);
  t.is(first.loop.session, null);
  t.true(peer.link.loop.session === session);
  t.deepEqual(peer.abandoned, ['channel-displaced']);
  t.deepEqual(peer.allEndings, []);
});

test('a session that somebody ends as it leaves its link is not taken to another one', (t) => {
  const peer = ResumingPeer.resumable();
  const { session } = peer;
  session.once('suspended', () => session.end(new VproxyError('shutdown', 'enough')));
  peer.connect();
  peer.link.send(RESUME, 0, peer.resumePayload());
  t.deepEqual(peer.allEndings, ['shutdown', 'opening: shutdown']);
  beginsAnew(peer);
  t.true(peer.link.loop.session?.isReady);
});

test('of two links that wait for the same session the first one that is proved has it, and the other one is given up', (t) => {
  const { peer, sink, sequence } = suspended();
  const { session } = peer;
  const { link: first } = peer.connect();
  const late = first.frame(RESUME, 0, peer.resumePayload());
  t.is(first.log.frames[0]?.type, RESUME);
  peer.connect();
  peer.goOn(sequence);
  t.deepEqual(peer.abandoned, ['channel-displaced']);
  peer.send(DATA, 1, Buffer.from('!'));
  // What it was told on the first link is not true any more.
  first.write(late);
  t.is(first.loop.session, null);
  t.true(peer.link.loop.session === session);
  t.deepEqual(peer.allEndings, []);
  peer.send(DATA, 1, Buffer.from('?'));
  t.is(sink.bytes.toString(), 'first!?');
});

test('links that wait for a session that ends meanwhile are opened again', (t) => {
  const { peer } = suspended();
  const { link } = peer.connect();
  link.advance(9000);
  peer.session.drain('over');
  t.deepEqual(peer.allEndings, ['shutdown', 'opening: shutdown']);
  link.advance(1000);
  t.is(link.loop.session, null);
  beginsAnew(peer);
  t.true(peer.session.isReady);
});

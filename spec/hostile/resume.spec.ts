/** Hostile peers of sessions that outlive their links, frame by frame: what they can end is their own session, and what they can make a side keep is bounded. */
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { VproxyError } from '../../lib/errors.js';
import { creditPayload } from '../helpers/frame-maker.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { ResumingPeer, TestedSide, wrongSecret } from './resuming-peer.js';

const { ACK, AUTH, CREDIT, DATA, GOAWAY, OPEN, PING, RESUME, SECRET } = FRAME_TYPE;

/** A peer with stream 1, which has no link; 5 bytes of it have come, and 5 are on the way. */
function suspended(side = new TestedSide()): ResumingPeer {
  const peer = ResumingPeer.established(side);
  peer.sendInSession(OPEN, { service: 'echo' }, 1);
  peer.sendInSession(DATA, Buffer.from('first'), 1);
  side.streams.get(1)?.send(Buffer.from('reply'), 0, 5, false);
  peer.disconnect();
  return peer;
}

/** The peer comes after all, and all is there as it was left. */
function resumesAfterAll(t: ExecutionContext, peer: ResumingPeer): void {
  const { side } = peer;
  peer.connect();
  t.is(peer.resume(), peer.state.sentBytes);
  t.true(peer.loop.session === side.session);
  peer.sendInSession(DATA, Buffer.from(', second'), 1);
  t.is(side.sink(1).bytes.toString(), 'first, second');
  peer.sendInSession(PING, Buffer.alloc(8));
  t.true(peer.takeTexts().includes('PONG 0'));
}

test('a session goes on for a peer that keeps to the rules', (t) => {
  const peer = suspended();
  resumesAfterAll(t, peer);
  t.deepEqual(peer.side.endings, []);
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
    const peer = ResumingPeer.established();
    peer.sendInSession(type, payload);
    t.deepEqual(peer.side.endings, [code]);
    t.deepEqual(peer.side.kept.named([]), []);
    t.true(peer.takeTexts()[0]?.startsWith('GOAWAY'));
  });
}

for (const [what, type, length] of [
  ['SECRET', SECRET, 32],
  ['ACK', ACK, 8],
] as const) {
  test(`${what} where no resuming was agreed ends the session with protocol-error`, (t) => {
    const peer = new ResumingPeer();
    peer.begin([]);
    peer.sendInSession(type, Buffer.alloc(length));
    t.deepEqual(peer.side.endings, ['protocol-error']);
  });
}

test('an ACK that says less than the last one means nothing', (t) => {
  const peer = ResumingPeer.established();
  peer.acknowledge();
  for (const totalBytes of [0, 1, 47]) peer.acknowledge(totalBytes);
  t.deepEqual(peer.side.endings, []);
  peer.sendInSession(PING, Buffer.alloc(8));
  peer.acknowledge();
  t.deepEqual(peer.side.endings, []);
});

test('a flood of ACKs is answered by nothing, and holds no memory', (t) => {
  const peer = ResumingPeer.established();
  const { session } = peer.side;
  const sentFrames = session.counters.sentFrames;
  const ack = creditPayload(peer.state.stream.length);
  for (let batch = 0; batch < 100; batch += 1)
    peer.deliver(Buffer.concat(Array.from({ length: 1000 }, () => peer.sessionFrame(ACK, ack))));
  peer.side.clock.advance(5000);
  peer.pump();
  // What came before the flood is acknowledged once.
  t.true(session.counters.sentFrames - sentFrames <= 1);
  t.is(session.unwrittenBytes, 0);
  t.deepEqual(peer.side.endings, []);
});

test('a flood of PINGs from a peer that acknowledges nothing ends the session, when so much is kept as nobody needs', (t) => {
  const peer = ResumingPeer.established(new TestedSide({}, 100_000));
  let pings = 0;
  for (; peer.side.endings.length === 0 && pings < 1_000_000; pings += 1) {
    // Each is answered by itself.
    peer.loop.receive(peer.sessionFrame(PING, Buffer.alloc(8)));
    peer.outbound.clear();
  }
  t.deepEqual(peer.side.endings, ['flood']);
  const keptBytes = pings * 24;
  t.true(keptBytes > 4 * 2 ** 20 && keptBytes < 5 * 2 ** 20, `${keptBytes}`);
});

test('a peer that acknowledges nothing stalls data at what may be kept, and nothing else', (t) => {
  const memoryBytes = 300_000;
  const side = new TestedSide({}, memoryBytes);
  const peer = ResumingPeer.established(side);
  peer.sendInSession(CREDIT, creditPayload(2 ** 40));
  const sink = new RecordingSink();
  const stream = side.session.open('source', null, sink);
  peer.sendInSession(FRAME_TYPE.ACCEPT, undefined, stream.id);
  peer.sendInSession(CREDIT, creditPayload(2 ** 40), stream.id);
  stream.send(Buffer.alloc(2_000_000, 'd'), 0, 2_000_000, false);
  const sentBytes = (): number => stream.sentBytes;
  const stalledAt = sentBytes();
  t.true(stalledAt <= memoryBytes + 131_072 && stalledAt > memoryBytes - 131_072, `${stalledAt}`);
  for (let second = 0; second < 600; second += 1) {
    side.clock.advance(1000);
    peer.sendInSession(PING, Buffer.alloc(8));
    t.is(peer.takeTexts().at(-1), 'PONG 0');
  }
  side.session.setServices(['new']);
  peer.pump();
  t.true(peer.takeTexts().includes('SERVICES 0'));
  t.is(sentBytes(), stalledAt);
  t.deepEqual(side.endings, []);
  // Without a link no more is kept, either.
  peer.reconnect();
  t.is(sentBytes(), stalledAt);
  peer.resume();
  for (let round = 0; round < 100 && sentBytes() < 2_000_000; round += 1) peer.acknowledge();
  t.is(sentBytes(), 2_000_000);
});

test('a peer that wants all again and again gets what is kept each time, and no more is kept', (t) => {
  const side = new TestedSide();
  const peer = ResumingPeer.established(side);
  peer.sendInSession(OPEN, { service: 'echo' }, 1);
  side.streams.get(1)?.send(Buffer.alloc(60_000, 'd'), 0, 60_000, false);
  peer.pump();
  const keptBytes = peer.state.stream.length;
  for (let again = 0; again < 50; again += 1) {
    peer.reconnect();
    peer.resume(0);
    t.is(peer.state.stream.length, keptBytes);
  }
  t.deepEqual(side.endings, []);
  // What it has acknowledged is not there any more.
  peer.acknowledge();
  peer.reconnect();
  peer.offer();
  peer.deliver(peer.resumeFrame({ receivedBytes: 0 }));
  t.deepEqual(side.endings, ['protocol-error']);
  t.deepEqual(side.kept.named([]), []);
});

test('a peer that says it has what was never sent ends its session', (t) => {
  const peer = suspended();
  peer.connect();
  peer.offer();
  peer.deliver(peer.resumeFrame({ receivedBytes: peer.state.stream.length + 1 }));
  t.deepEqual(peer.side.endings, ['protocol-error']);
  t.is(peer.side.sink(1).reason?.code, 'protocol-error');
});

/** What a peer may do on a link where the session that waits is not to be touched by it. */
const ATTEMPTS: readonly (readonly [string, (peer: ResumingPeer) => void])[] = [
  ['a wrong proof', (peer) => peer.deliver(peer.resumeFrame({ secret: wrongSecret() }))],
  ['a proof of zeros', (peer) => peer.deliver(peer.frame(RESUME, 0, Buffer.alloc(40)))],
  ['RESUME of 39 bytes', (peer) => peer.deliver(peer.frame(RESUME, 0, Buffer.alloc(39)))],
  ['RESUME of 4,096 bytes', (peer) => peer.deliver(peer.frame(RESUME, 0, Buffer.alloc(4096)))],
  ['the RESUME of the side itself', (peer) => peer.deliver(Buffer.from(peer.tail))],
  ['a proof with another number', (peer) => peer.deliver(changed(peer.resumeFrame()))],
  ['AUTH that nobody demanded', (peer) => peer.deliver(peer.frame(AUTH, 0, Buffer.alloc(32)))],
  ['DATA', (peer) => peer.deliver(peer.frame(DATA, 1, Buffer.from('x')))],
  ['a frame of the session', (peer) => peer.deliver(peer.frame(PING, 0, Buffer.alloc(8)))],
  ['SECRET', (peer) => peer.deliver(peer.frame(SECRET, 0, Buffer.alloc(32)))],
  ['ACK', (peer) => peer.deliver(peer.frame(ACK, 0, Buffer.alloc(8)))],
  ['GOAWAY', (peer) => peer.deliver(peer.frame(GOAWAY, 0, { code: 'denied', message: '', last: 0 }))],
  ['a wrong check', (peer) => peer.deliver(peer.frame(PING, 0, Buffer.alloc(8), { hasWrongCheck: true }))],
  ['the flush of another opening', (peer) => peer.deliver(Buffer.alloc(1000))],
  ['nothing', (peer) => peer.side.clock.advance(10_000)],
  ['half a RESUME, and nothing', (peer) => stalls(peer, peer.resumeFrame().subarray(0, 30))],
];

/** A RESUME whose number is another one, with a checksum that is right. */
function changed(frame: Buffer): Buffer {
  const payload = Buffer.from(frame.subarray(16));
  payload[7] = (payload[7] as number) ^ 1;
  const peer = new ResumingPeer();
  return peer.frame(RESUME, 0, payload);
}

function stalls(peer: ResumingPeer, bytes: Buffer): void {
  peer.deliver(Buffer.from(bytes));
  peer.side.clock.advance(10_000);
}

for (const [what, act] of ATTEMPTS) {
  test(`${what} in place of a proof fails the link, and the session waits on`, (t) => {
    const peer = suspended();
    const { session } = peer.side;
    peer.connect();
    peer.offer();
    t.false(peer.loop.session?.isReady ?? false);
    act(peer);
    t.is(peer.side.endings.length, 1);
    t.regex(peer.side.endings[0] ?? '', /^opening: /);
    t.true(session.isSuspended);
    peer.disconnect();
    resumesAfterAll(t, peer);
  });
}

test('wrong proofs again and again leave nothing behind', (t) => {
  const peer = suspended();
  const { session, clock } = peer.side;
  const before = [clock.pending, session.listenerCount('suspended'), session.listenerCount('end')];
  for (let attempt = 0; attempt < 300; attempt += 1) {
    peer.connect();
    peer.offer();
    peer.deliver(peer.resumeFrame({ secret: wrongSecret() }));
    peer.disconnect();
  }
  t.deepEqual([clock.pending, session.listenerCount('suspended'), session.listenerCount('end')], before);
  t.deepEqual(new Set(peer.side.endings), new Set(['opening: auth-failed']));
  resumesAfterAll(t, peer);
});

test('ids that nobody knows, four or a hundred of them, begin a session like any', (t) => {
  for (const count of [4, 100]) {
    const peer = suspended();
    peer.connect();
    peer.begin(['resume', ...Array.from({ length: count }, (_, index) => `resume:${String(index).padStart(16, '0')}`)]);
    t.true(peer.loop.session?.isReady);
    t.deepEqual(peer.side.endings, ['resume-refused']);
  }
});

test('a session is found behind three that are not known', (t) => {
  const peer = suspended();
  peer.connect();
  peer.offer(['0'.repeat(16), '1'.repeat(16), '2'.repeat(16), peer.id]);
  t.is(peer.tail[0], RESUME);
});

test('a session of another channel is not taken up, and not ended', (t) => {
  const peer = suspended();
  const other = new ResumingPeer(new TestedSide());
  other.begin(['resume', `resume:${peer.id}`]);
  t.true(other.side.session.isReady);
  t.true(peer.side.session.isSuspended);
  resumesAfterAll(t, peer);
});

test('RESUME twice ends the session that goes on: the second one has the number of another frame', (t) => {
  for (const hasRightNumber of [false, true]) {
    const peer = suspended();
    peer.connect();
    peer.resume();
    if (hasRightNumber) peer.sendInSession(RESUME, Buffer.alloc(40));
    else peer.deliver(peer.resumeFrame());
    t.deepEqual(peer.side.endings, [hasRightNumber ? 'protocol-error' : 'desync']);
  }
});

test('a stranger on a second link, who knows the id of an open session, ends nothing', (t) => {
  const peer = ResumingPeer.established();
  const { side } = peer;
  const stranger = new ResumingPeer(side, 7);
  stranger.offer([peer.id]);
  t.is(stranger.tail.length, 0);
  side.clock.advance(9999);
  t.deepEqual(side.endings, []);
  side.clock.advance(1);
  t.deepEqual(side.endings, ['opening: auth-failed']);
  peer.sendInSession(PING, Buffer.alloc(8));
  t.true(peer.takeTexts().includes('PONG 0'));
  t.deepEqual(peer.abandoned, []);
});

test('a peer that proves itself on a second link takes its session there', (t) => {
  const peer = ResumingPeer.established();
  const first = peer.loop;
  const { session } = peer.side;
  peer.connect();
  peer.resume();
  t.is(first.session, null);
  t.true(peer.loop.session === session);
  t.deepEqual(peer.abandoned, ['channel-displaced']);
  t.deepEqual(peer.side.endings, []);
});

test('a session that somebody ends as it leaves its link is not taken to another one', (t) => {
  const peer = ResumingPeer.established();
  const { session } = peer.side;
  session.once('suspended', () => session.end(new VproxyError('shutdown', 'enough')));
  peer.connect();
  peer.offer();
  peer.deliver(peer.resumeFrame());
  t.deepEqual(peer.side.endings, ['shutdown', 'opening: shutdown']);
  peer.disconnect();
  peer.connect();
  peer.begin();
  t.true(peer.loop.session?.isReady);
});

test('of two links that wait for the same session the first one that is proved has it, and the other one is given up', (t) => {
  const peer = suspended();
  const { side } = peer;
  peer.connect();
  peer.offer();
  const late = peer.resumeFrame();
  const first = peer.loop;
  t.is(peer.tail[0], RESUME);
  peer.connect();
  peer.resume();
  t.deepEqual(peer.abandoned, ['channel-displaced']);
  peer.sendInSession(DATA, Buffer.from('!'), 1);
  // What it was told on the first link is not true any more.
  first.receive(late);
  t.is(first.session, null);
  t.true(peer.loop.session === side.session);
  t.deepEqual(side.endings, []);
  peer.sendInSession(DATA, Buffer.from('?'), 1);
  t.is(side.sink(1).bytes.toString(), 'first!?');
});

test('links that wait for a session that ends meanwhile are opened again', (t) => {
  const peer = suspended();
  peer.connect();
  peer.offer();
  peer.side.clock.advance(9000);
  peer.side.session.drain('over');
  t.deepEqual(peer.side.endings, ['shutdown', 'opening: shutdown']);
  peer.side.clock.advance(1000);
  peer.renew();
  t.is(peer.loop.session, null);
  peer.disconnect();
  peer.connect();
  peer.begin();
  t.true(peer.side.session.isReady);
});

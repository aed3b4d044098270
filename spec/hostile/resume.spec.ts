/** Hostile peers of resumable sessions, frame by frame: they can end only their own, and make a side keep only so much. */
import test, { type ExecutionContext } from 'ava';
import { creditPayload } from '../../conformance/frame-maker.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { VproxyError } from '../../lib/errors.js';
import { FairBudget } from '../../lib/util/bounds.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { ResumingPeer } from '../helpers/resuming-peer.js';

const { ACCEPT, ACK, CREDIT, DATA, OPEN, PING, RESUME } = FRAME_TYPE;

/** A key that no side has. */
const WRONG_KEY = Buffer.alloc(32, 'x');

/** A session without a link, in which the peer has stream 1. */
interface Suspended {
  readonly peer: ResumingPeer;
  /** The bytes received on stream 1. */
  readonly sink: RecordingSink;
  /** The sequence number of the peer's next frame in the session. */
  readonly sequence: number;
}

/** 5 bytes of stream 1 have come, and 5 of the answer are lost in flight. */
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

/** The peer comes after all, and everything is as it was. */
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

test('many peers that acknowledge nothing make a process keep no more than its budget, and no peer stops another one', (t) => {
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
  // The waiting ones lose nothing: with an answer they continue.
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

const wrongProof = (peer: ResumingPeer): Buffer => peer.resumePayload(peer.received.length, peer.channel, WRONG_KEY);

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

test('unknown ids, four or a hundred of them, begin a normal session', (t) => {
  for (const count of [4, 100]) {
    const { peer } = suspended();
    const ids = Array.from({ length: count }, (_, index) => `resume:${String(index).padStart(16, '0')}`);
    beginsAnew(peer, ['resume', ...ids]);
    t.true(peer.link.loop.session?.wasEstablished);
    t.deepEqual(peer.allEndings, ['resume-refused']);
  }
});

test('a session that a listener ends as it leaves its link is not moved to another one', (t) => {
  const peer = ResumingPeer.resumable();
  const { session } = peer;
  session.once('suspended', () => session.end(new VproxyError('shutdown', 'enough')));
  peer.connect();
  peer.link.send(RESUME, 0, peer.resumePayload());
  t.deepEqual(peer.allEndings, ['shutdown', 'opening: shutdown']);
  beginsAnew(peer);
  t.true(peer.link.loop.session?.wasEstablished);
});

test('of two links that wait for the same session the first one proved gets it, and the other one is abandoned', (t) => {
  const { peer, sink, sequence } = suspended();
  const { session } = peer;
  const { link: first } = peer.connect();
  const late = first.frame(RESUME, 0, peer.resumePayload());
  t.is(first.log.frames[0]?.type, RESUME);
  peer.connect();
  peer.goOn(sequence);
  t.deepEqual(peer.abandoned, ['channel-displaced']);
  peer.send(DATA, 1, Buffer.from('!'));
  // What it was told on the first link no longer holds.
  first.write(late);
  t.is(first.loop.session, null);
  t.true(peer.link.loop.session === session);
  t.deepEqual(peer.allEndings, []);
  peer.send(DATA, 1, Buffer.from('?'));
  t.is(sink.bytes.toString(), 'first!?');
});

/** Sessions that continue on other links, and how they end. The rules are tested in conformance/resume.ts. */
import test from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { RESUME_MS } from '../helpers/session-pair.js';
import { ResumePair } from './resume-pair.js';

test('a round trip never spans two links; a requested measurement waits for the next link', (t) => {
  const pair = new ResumePair();
  const { session } = pair.a;
  const measured: number[] = [];
  session.on('measured', (roundTripMs) => measured.push(roundTripMs));
  for (const isAskedBefore of [true, false]) {
    if (isAskedBefore) session.measure();
    pair.disconnect();
    if (!isAskedBefore) session.measure();
    pair.clock.advance(50_000);
    pair.connect();
    pair.settle();
  }
  pair.cut();
  pair.settle();
  t.deepEqual(measured, [0.5, 0.5]);
});

/** A pair with an open stream that has carried something, cut while more was in flight. */
function disconnected() {
  const { pair, end } = ResumePair.withStream();
  end.send(10_000);
  pair.settle();
  end.send(300_000);
  pair.step(10_000);
  pair.disconnect();
  return { pair, end, session: pair.a.session, other: pair.b.session };
}

type Disconnected = ReturnType<typeof disconnected>;

function connect({ pair }: Disconnected): void {
  pair.connect();
  pair.settle();
}

const EXPIRED = 'resume-expired no new link within 60 s';
const REFUSED = 'resume-refused the peer reconnected without the session';
const RESTARTED = 'peer-restarted the peer restarted';
const NOW = new VproxyError('shutdown', 'now');

/** An event, the reason with which a session without a link ends by it, and how many sessions the side has then. */
const ENDINGS: readonly [what: string, ending: string, kept: number, act: (lost: Disconnected) => void][] = [
  ['no other link comes', EXPIRED, 0, ({ pair }) => pair.clock.advance(RESUME_MS)],
  ['the channel is stopped', 'shutdown now', 0, ({ pair }) => pair.a.kept.stop(NOW)],
  ['it is to drain', 'shutdown now', 0, ({ session }) => session.drain('now')],
  ['it is ended', 'shutdown now', 0, ({ session }) => session.end(NOW)],
  ['the peer reconnects and begins another one', REFUSED, 1, ({ other }) => other.end(new VproxyError('stalled', ''))],
  ['the peer restarts', RESTARTED, 1, ({ pair }) => pair.b.replace()],
  ['the peer restarts without resuming', RESTARTED, 0, ({ pair }) => pair.b.replace({ resume: null })],
];

for (const [what, ending, kept, act] of ENDINGS) {
  test(`if ${what} a session without a link ends, with its streams and everything it kept`, (t) => {
    const lost = disconnected();
    const { pair, end, session } = lost;
    const { outbound } = pair.a;
    const bytesBefore = outbound.totalBytes;
    act(lost);
    if (ending === REFUSED || ending === RESTARTED) connect(lost);
    t.deepEqual(pair.a.ended, [ending]);
    t.true(ending.startsWith(`${end.reason?.code} `));
    const left = [session.streams.list().length, end.lentBuffers, session.unwrittenBytes, Number(session.isSuspended)];
    t.deepEqual([session.isOver, ...left], [true, 0, 0, 0, 0]);
    t.is(pair.a.kept.named([]).length, kept);
    t.is(pair.a.loop.session?.wasEstablished ?? false, pair.a.sessions.length === 2);
    t.is(outbound.totalBytes, bytesBefore, 'nothing is written to the closed link');
    if (pair.a.sessions.length === 1) t.is(pair.a.processClock.pending, 0);
  });
}

test('a session that loses its link after the channel was stopped ends then', (t) => {
  const { pair, end } = ResumePair.withStream();
  pair.a.kept.stop(new VproxyError('shutdown', 'stopped'));
  t.deepEqual(pair.a.ended, []);
  pair.disconnect();
  t.deepEqual(pair.a.ended, ['channel-closed cut']);
  t.is(end.reason?.code, 'channel-closed');
});

test('R-RESUME-6: a session that loses its link and its GOAWAY while draining continues on the next one, and ends with its last stream', (t) => {
  for (const whose of ['a', 'b'] as const) {
    for (const bytes of [0, 20_000]) {
      const { pair, end } = ResumePair.withStream();
      end.send(300_000);
      pair[whose].session.drain('leaving');
      if (bytes > 0) pair.step(bytes);
      pair.cut();
      pair.settle();
      t.deepEqual(pair.ended, []);
      t.true(pair.a.session.isDraining && pair.b.session.isDraining);
      t.deepEqual(pair.finish().sort(), ['a: shutdown leaving', 'b: shutdown leaving']);
      t.deepEqual([end.reason, end.other?.receivedBytes], [null, 300_000]);
    }
  }
});

test('a drain without a new link takes no longer than any other', (t) => {
  const { pair, end } = ResumePair.withStream();
  const { session } = pair.a;
  session.drain('leaving');
  pair.settle();
  pair.disconnect();
  pair.clock.advance(29_999);
  t.false(session.isOver);
  pair.clock.advance(1);
  t.deepEqual([session.isOver, end.reason?.code], [true, 'shutdown']);
});

test('the last words of a session precede the handshake of the next one', (t) => {
  const { pair, end } = ResumePair.withStream({ capacityBytes: 1000 });
  end.send(500_000);
  pair.step(1000);
  pair.a.session.end(new VproxyError('denied', 'enough'));
  t.is(end.reason?.message, 'enough');
  pair.settle();
  t.deepEqual(pair.b.ended, ['denied enough']);
  t.is(end.lentBuffers, 0);
});

test('a link that ends while it waits for the session of another one leaves that one alone', (t) => {
  const lost = disconnected();
  const { pair, session } = lost;
  pair.connect();
  // The HELLOs have crossed, and neither RESUME has come.
  while (!pair.a.loop.isAnswered) pair.step(131_100 + 600);
  pair.disconnect();
  t.true(session.isSuspended);
  connect(lost);
  t.is(pair.a.loop.session, session);
});

test('a link abandoned just as the session leaves another one for it does not take the session', (t) => {
  const pair = new ResumePair();
  pair.a.disconnect();
  const { loop: before, session } = pair.b;
  pair.b.loseUnawares();
  pair.connect();
  before.once('suspended', () => pair.b.loop.stop(new VproxyError('shutdown', 'given up')));
  pair.settle();
  t.true(session.isSuspended);
  t.is(pair.b.resumed, 0);
  pair.cut();
  pair.settle();
  t.is(pair.b.loop.session, session);
});

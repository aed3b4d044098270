/** What a session that has lost its link ends with, and when. */
import test from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { RESUME_MS, ResumePair, type ResumePairOptions } from './resume-pair.js';

const [ONE, TWO] = ['1f', '2e'].map((digits) => SecretKey.parse(digits.repeat(32))) as [SecretKey, SecretKey];

/** A pair with an open stream that has carried something, cut while more of it was under way. */
function disconnected(options: ResumePairOptions = {}) {
  const pair = new ResumePair(options);
  const end = pair.traffic.open(pair.a);
  if (end === null) throw new Error('there is no session');
  end.send(10_000);
  pair.settle();
  end.send(300_000);
  pair.step(10_000);
  pair.disconnect();
  const [session, other] = [pair.a.session, pair.b.session];
  return { pair, end, session, other };
}

type Disconnected = ReturnType<typeof disconnected>;

/** What is left of a session that is over: streams, buffers and timers. */
const leftovers = ({ pair, end, session }: Disconnected) => ({
  isOver: session.isOver,
  streams: session.streams.list().length,
  lentBuffers: end.lentBuffers,
  unwrittenBytes: session.unwrittenBytes,
  isSuspended: session.isSuspended,
  kept: pair.a.kept.named([]).length,
});

const NOTHING_LEFT = { isOver: true, streams: 0, lentBuffers: 0, unwrittenBytes: 0, isSuspended: false, kept: 0 };

test('a session for which no other link comes in time ends, with its streams and all that it kept', (t) => {
  const lost = disconnected();
  const { pair, end } = lost;
  pair.clock.advance(RESUME_MS - 1);
  t.deepEqual(pair.endings, []);
  t.false(end.isOver);
  pair.clock.advance(1);
  t.deepEqual(pair.endings, [
    'a: resume-expired no other link within 60 s',
    'b: resume-expired no other link within 60 s',
  ]);
  t.is(end.reason?.code, 'resume-expired');
  t.deepEqual(leftovers(lost), NOTHING_LEFT);
  t.is(pair.clock.pending, 0);
});

test('the time runs anew when the session loses another link', (t) => {
  const { pair } = disconnected();
  pair.clock.advance(RESUME_MS - 1);
  pair.connect();
  pair.settle();
  pair.clock.advance(10);
  pair.disconnect();
  pair.clock.advance(RESUME_MS - 1);
  t.deepEqual(pair.endings, []);
});

test('a peer of the same process that begins another session refuses the one that waits', (t) => {
  const lost = disconnected();
  const { pair, end, other } = lost;
  other.end(new VproxyError('stalled', 'gone at the other side only'));
  pair.connect();
  pair.settle();
  t.deepEqual(pair.a.endings, ['resume-refused the peer came back without the session']);
  t.is(end.reason?.code, 'resume-refused');
  t.deepEqual(leftovers(lost), { ...NOTHING_LEFT, kept: 1 });
  t.is(pair.a.sessions.length, 2);
  t.true(pair.a.loop.session?.isReady);
});

test('another process in place of the peer ends the session that waits', (t) => {
  const lost = disconnected();
  const { pair, end } = lost;
  pair.b.replace();
  pair.connect();
  pair.settle();
  t.deepEqual(pair.a.endings, ['peer-restarted another process came back in place of the peer']);
  t.is(end.reason?.code, 'peer-restarted');
  t.deepEqual(leftovers(lost), { ...NOTHING_LEFT, kept: 1 });
});

test('a peer that resumes nothing any more ends the session that waits, too', (t) => {
  const lost = disconnected();
  lost.pair.b.replace({ resume: null });
  lost.pair.connect();
  lost.pair.settle();
  t.is(lost.end.reason?.code, 'peer-restarted');
  t.deepEqual(leftovers(lost), NOTHING_LEFT);
});

test('a stranger ends nothing: neither with another key, nor without one', (t) => {
  const keys = (): SecretKey[] => [ONE];
  for (const settings of [{ keys: () => [TWO] }, { keys: () => [] }]) {
    const lost = disconnected({ settings: { keys } });
    const { pair, end } = lost;
    const { kept, settings: before } = pair.b;
    for (let again = 0; again < 5; again += 1) {
      pair.b.replace(settings);
      pair.connect();
      pair.settle();
      pair.disconnect();
      t.deepEqual(pair.a.endings, []);
    }
    // Neither does one that knows the session, and its secret.
    pair.b.kept = kept;
    pair.b.settings = { ...before, ...settings };
    pair.connect();
    pair.settle();
    pair.disconnect();
    t.deepEqual(pair.endings, []);
    t.true(lost.session.isSuspended);
    // The peer comes after all.
    pair.b.kept = kept;
    pair.b.settings = before;
    pair.connect();
    pair.settle();
    end.finish();
    pair.settle();
    t.is(pair.a.loop.session, lost.session);
    t.deepEqual(pair.traffic.faults(), []);
    t.is(end.other?.receivedBytes, 310_000);
  }
});

test('a HELLO of another process ends nothing before there is a session with it', (t) => {
  const { pair, end, session } = disconnected();
  pair.b.replace();
  pair.a.connect(1_000_000);
  pair.b.connect(1_000_000);
  pair.start();
  pair.step(131_100 + 16, 0);
  t.false(session.isOver);
  t.false(end.isOver);
});

test('what is stopped ends the sessions that wait at once, and those that lose their links later with these', (t) => {
  const lost = disconnected();
  const { pair, end } = lost;
  pair.a.kept.stop(new VproxyError('shutdown', 'stopped'));
  t.deepEqual(pair.a.endings, ['shutdown stopped']);
  t.is(end.reason?.code, 'shutdown');
  t.deepEqual(leftovers(lost), NOTHING_LEFT);

  const later = new ResumePair();
  const stream = later.traffic.open(later.a);
  later.settle();
  later.a.kept.stop(new VproxyError('shutdown', 'stopped'));
  t.deepEqual(later.a.endings, []);
  later.disconnect();
  t.deepEqual(later.a.endings, ['channel-closed cut']);
  t.is(stream?.reason?.code, 'channel-closed');
});

test('a drain without a link ends at once', (t) => {
  const lost = disconnected();
  lost.session.drain('the operator wants it so');
  t.deepEqual(lost.pair.a.endings, ['shutdown the operator wants it so']);
  t.is(lost.end.reason?.code, 'shutdown');
  t.deepEqual(leftovers(lost), NOTHING_LEFT);
});

test('an end without a link tells the streams, and writes nothing anywhere', (t) => {
  const lost = disconnected();
  const { pair, end, session } = lost;
  const bytesBefore = pair.a.outbound.totalBytes;
  session.end(new VproxyError('shutdown', 'now'));
  t.is(end.reason?.message, 'now');
  t.deepEqual(leftovers(lost), NOTHING_LEFT);
  t.is(pair.a.outbound.totalBytes, bytesBefore);
  // The peer learns of it by the next session.
  pair.connect();
  pair.settle();
  t.deepEqual(pair.b.endings, ['resume-refused the peer came back without the session']);
});

test('a session that loses its link while it drains goes on with the next one, and ends when its streams have', (t) => {
  for (const whose of ['a', 'b'] as const) {
    const pair = new ResumePair();
    const end = pair.traffic.open(pair.a);
    end?.send(10_000);
    pair.settle();
    end?.send(300_000);
    pair[whose].session.drain('leaving');
    pair.step(20_000);
    pair.cut();
    pair.settle();
    t.deepEqual(pair.endings, []);
    t.true(pair.a.session.isDraining);
    t.true(pair.b.session.isDraining);
    end?.finish();
    end?.other?.finish();
    pair.settle();
    t.deepEqual(pair.traffic.faults(), []);
    t.is(end?.other?.receivedBytes, 310_000);
    t.is(end?.reason, null);
    t.deepEqual(pair.endings.slice().sort(), ['a: shutdown leaving', 'b: shutdown leaving']);
  }
});

test('a GOAWAY that was lost with its link comes with the next one', (t) => {
  const pair = new ResumePair();
  const end = pair.traffic.open(pair.a);
  pair.settle();
  pair.b.session.drain('leaving');
  pair.cut();
  t.false(pair.a.session.isDraining);
  pair.settle();
  t.true(pair.a.session.isDraining);
  end?.finish();
  end?.other?.finish();
  pair.settle();
  t.is(end?.reason, null);
});

test('a drain that no link comes for takes no longer than any', (t) => {
  const { pair, end, session } = disconnected();
  pair.connect();
  pair.settle();
  session.drain('leaving');
  pair.settle();
  pair.disconnect();
  pair.clock.advance(29_999);
  t.false(session.isOver);
  pair.clock.advance(1);
  t.true(session.isOver);
  t.is(end.reason?.code, 'shutdown');
});

test('a session that was ended is over, also where the peer was not told before the link was lost', (t) => {
  const pair = new ResumePair();
  const end = pair.traffic.open(pair.a);
  pair.settle();
  pair.b.session.end(new VproxyError('shutdown', 'now'));
  pair.cut();
  pair.settle();
  t.deepEqual(pair.a.endings, ['resume-refused the peer came back without the session']);
  t.is(end?.reason?.code, 'resume-refused');
  t.is(end?.other?.reason?.code, 'shutdown');
  t.is(pair.a.sessions.length, 2);
});

test('what a session still had to say when it ended goes before the opening of the next one', (t) => {
  const pair = new ResumePair({ capacityBytes: 1000 });
  const end = pair.traffic.open(pair.a);
  end?.send(10_000);
  pair.settle();
  end?.send(500_000);
  pair.step(1000);
  pair.a.session.end(new VproxyError('denied', 'enough'));
  t.is(end?.reason?.message, 'enough');
  pair.settle();
  t.deepEqual(pair.b.endings, ['denied enough']);
  t.is(end?.lentBuffers, 0);
});

test('a link that ends while it waits for the session of another one lets that one alone', (t) => {
  const { pair, session } = disconnected();
  pair.connect();
  // The HELLOs have crossed, and neither RESUME has come.
  while (!pair.a.loop.isAnswered) pair.step(131_100 + 600);
  pair.disconnect();
  t.true(session.isSuspended);
  pair.connect();
  pair.settle();
  t.is(pair.a.loop.session, session);
});

test('a link that is given up as the session leaves another one for it does not take it', (t) => {
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

/** When a peer counts as silent: an answer is overdue, which is never so on an idle channel. */
import test from 'ava';
import { RecordingSink } from '../helpers/local-ends.js';
import { SessionPair } from '../helpers/session-pair.js';

/** Lets time pass for both sides, in short steps, and returns the longest silence that `a` saw; null: none. */
function pass(pair: SessionPair, ms: number): number | null {
  let longestMs: number | null = null;
  for (let passedMs = 0; passedMs < ms; passedMs += 100) {
    pair.clock.advance(100);
    pair.settle();
    const { overdueMs } = pair.a.session;
    if (overdueMs !== null) longestMs = Math.max(longestMs ?? 0, overdueMs);
  }
  return longestMs;
}

test('R-LIVE-1: an idle peer is not silent; one that answers nothing is, until it is heard again', (t) => {
  const pair = new SessionPair();
  pair.establish();
  t.is(pass(pair, 60_000), null);
  pair.b.outbound.isStalled = true;
  const stoppedMs = pair.clock.now();
  t.is(pass(pair, 5000), null);
  t.true((pass(pair, 5000) ?? 0) >= 5000);
  for (let steps = 0; steps < 850; steps += 1) {
    pass(pair, 100);
    const silentMs = pair.a.session.overdueMs ?? 0;
    const stoppedForMs = pair.clock.now() - stoppedMs;
    t.true(silentMs >= stoppedForMs && silentMs <= stoppedForMs + 5000, `${silentMs} after ${stoppedForMs}`);
  }
  pair.b.outbound.isStalled = false;
  pair.settle();
  t.is(pair.a.session.overdueMs, null);
});

test('R-LIVE-1: a peer that was just asked for something is silent after 5 s without an answer', (t) => {
  for (let idleMs = 0; idleMs < 6000; idleMs += 500) {
    const pair = new SessionPair();
    pair.establish();
    t.is(pass(pair, idleMs), null);
    pair.b.outbound.isStalled = true;
    pair.a.session.open('sink', null, new RecordingSink());
    pass(pair, 5000);
    t.true((pair.a.session.overdueMs ?? 0) >= 5000, `after ${idleMs} ms`);
  }
});

test('R-LIVE-1: a peer that takes nothing is silent, also if no PING can be written', (t) => {
  const pair = new SessionPair({ capacityBytes: 1000 });
  pair.establish();
  pair.b.session.server = {
    serve(stream) {
      stream.attach(new RecordingSink());
      stream.accept();
    },
  };
  const stream = pair.a.session.open('sink', null, new RecordingSink());
  pair.settle();
  pair.a.outbound.isStalled = true;
  pair.b.outbound.isStalled = true;
  stream.send(Buffer.alloc(50_000), 0, 50_000, false);
  t.true((pass(pair, 15_000) ?? 0) >= 10_000);
});

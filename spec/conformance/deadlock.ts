import test from 'ava';
import type { PatternEnd } from '../helpers/local-ends.js';
import { SessionPair } from '../helpers/session-pair.js';
import { Traffic } from '../helpers/traffic.js';

const MESSAGE_BYTES = 200_000;

/** Opens `count` streams from both sides in turn, carries until both ends are there, and pauses all ends where asked. */
function openMany(pair: SessionPair, traffic: Traffic, count: number, isPaused: boolean): PatternEnd[] {
  const ends: PatternEnd[] = [];
  for (let index = 0; index < count; index += 1) {
    const end = traffic.open(index % 2 === 0 ? pair.a : pair.b);
    if (end !== null) ends.push(end);
  }
  pair.settle();
  const both = ends.flatMap((end) => (end.other === null ? [] : [end, end.other]));
  for (const end of both) end.isPaused = isPaused;
  return both;
}

for (const [integrity, pieceBytes] of [
  ['frame', 1013],
  ['full', 4096],
] as const) {
  test(`R-FLOW-1: floods both ways through 4 KiB, with 100 streams that nobody reads, all finish; integrity ${integrity}, pieces of ${pieceBytes}`, (t) => {
    const pair = new SessionPair({
      capacityBytes: 4096,
      integrity,
      limits: { streamCredit: 16_384, inFlight: 65_536 },
    });
    const traffic = new Traffic(pair);
    pair.establish();
    const unread = openMany(pair, traffic, 100, true);
    const unwritten = openMany(pair, traffic, 20, false);
    const floods = openMany(pair, traffic, 20, false);
    t.is(floods.length, 40);
    for (const end of [...unread, ...floods]) end.send(MESSAGE_BYTES);
    for (let step = 0; step < 300; step += 1) pair.step(pieceBytes);

    // In the middle of it another stream echoes at once: within what already lies in the channel, and one turn of each.
    const before = floods.filter((end) => end.receivedBytes === MESSAGE_BYTES).length;
    t.true(before < floods.length);
    const probe = traffic.open(pair.a);
    probe?.send(1000);
    let steps = 0;
    while (probe?.other?.receivedBytes !== 1000 && steps < 2000) {
      pair.step(pieceBytes);
      steps += 1;
    }
    probe?.other?.send(1000);
    while (probe?.receivedBytes !== 1000 && steps < 4000) {
      pair.step(pieceBytes);
      steps += 1;
    }
    const carriedBytes = steps * pieceBytes;
    t.true(carriedBytes < 4 * (131_072 + 44 * 16_400), `${carriedBytes}`);

    for (const end of floods) end.finish();
    pair.settle(pieceBytes);
    t.true(floods.every((end) => end.isOver && end.reason === null && end.receivedBytes === MESSAGE_BYTES));
    t.true(unread.every((end) => !end.isOver && end.receivedBytes === 16_384));
    t.true(unwritten.every((end) => !end.isOver));
    t.is(pair.a.session.streams.size, 121);

    // An end that reads on at last gets everything.
    traffic.finishAll();
    pair.settle(pieceBytes);
    t.deepEqual(traffic.faults(), []);
    t.true(unread.every((end) => end.isOver && end.receivedBytes === MESSAGE_BYTES));
    t.is(pair.a.session.streams.size + pair.b.session.streams.size, 0);
    t.is(pair.a.settings.receiveBudget.usedBytes + pair.b.settings.receiveBudget.usedBytes, 0);
  });
}

test('R-FLOW-5: windows of 1 KiB for streams and session carry any amount both ways at once', (t) => {
  const pair = new SessionPair({
    capacityBytes: 100,
    integrity: 'full',
    limits: { streamCredit: 1024, inFlight: 1024, frame: 4096 },
  });
  const traffic = new Traffic(pair);
  pair.establish();
  const ends = openMany(pair, traffic, 10, false);
  for (const end of ends) {
    end.send(20_000);
    end.finish();
  }
  pair.settle(333);
  t.deepEqual(traffic.faults(), []);
  t.true(ends.every((end) => end.isOver && end.reason === null));
});

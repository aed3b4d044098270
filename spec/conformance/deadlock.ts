import test from 'ava';
import type { PatternEnd } from '../helpers/local-ends.js';
import { SessionPair } from '../helpers/session-pair.js';
import { Traffic } from '../helpers/traffic.js';

const MESSAGE_BYTES = 200_000;

for (const [integrity, pieceBytes] of [
  ['frame', 1013],
  ['full', 4096],
] as const) {
  test(`R-FLOW-1: floods both ways through 4 KiB, with 100 streams that nobody reads, all finish; integrity ${integrity}, pieces of ${pieceBytes}`, (t) => {
    const limits = { streamCredit: 16_384, inFlight: 65_536 };
    const pair = new SessionPair({ capacityBytes: 4096, integrity, limits });
    const traffic = new Traffic(pair);
    pair.establish();
    /** Both ends of streams that both sides open in turn. */
    const openMany = (count: number, isPaused: boolean): PatternEnd[] => {
      const ends = Array.from({ length: count }, (_, index) => traffic.open(index % 2 === 0 ? pair.a : pair.b));
      pair.settle();
      return ends.flatMap((end) => [end, end?.other].map((one) => Object.assign(one as PatternEnd, { isPaused })));
    };
    const unread = openMany(100, true);
    const unwritten = openMany(20, false);
    const floods = openMany(20, false);
    for (const end of [...unread, ...floods]) end.send(MESSAGE_BYTES);
    for (let step = 0; step < 300; step += 1) pair.step(pieceBytes);

    // In the middle of it another stream echoes at once: within what already lies in the channel, and one turn of each.
    t.true(floods.some((end) => end.receivedBytes < MESSAGE_BYTES));
    const probe = traffic.open(pair.a);
    let steps = 0;
    const carryUntil = (isDone: () => boolean): void => {
      for (; !isDone() && steps < 4000; steps += 1) pair.step(pieceBytes);
    };
    probe?.send(1000);
    carryUntil(() => probe?.other?.receivedBytes === 1000);
    probe?.other?.send(1000);
    carryUntil(() => probe?.receivedBytes === 1000);
    t.true(steps * pieceBytes < 4 * (131_072 + 44 * 16_400), `${steps * pieceBytes}`);

    for (const end of floods) end.finish();
    pair.settle(pieceBytes);
    t.true(floods.every((end) => end.isOver && end.reason === null && end.receivedBytes === MESSAGE_BYTES));
    t.true(unread.every((end) => !end.isOver && end.receivedBytes === 16_384));
    t.true(unwritten.every((end) => !end.isOver));

    // An end that reads on at last gets everything.
    traffic.finishAll();
    pair.settle(pieceBytes);
    t.deepEqual(traffic.faults(), []);
    t.true(unread.every((end) => end.isOver && end.receivedBytes === MESSAGE_BYTES));
    t.is(pair.a.session.streams.size + pair.b.session.streams.size, 0);
    t.is(pair.a.settings.receiveBudget.usedBytes + pair.b.settings.receiveBudget.usedBytes, 0);
  });
}

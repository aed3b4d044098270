/** R-CHANNEL-1: processes that are killed anywhere. What bytes that are lost, repeated or stale come to besides is the model's to show. */
import test from 'ava';
import { SessionPair } from '../helpers/session-pair.js';
import { Traffic } from '../helpers/traffic.js';

const SMALL = { limits: { frame: 4096, streamCredit: 2048, inFlight: 4096 }, integrity: 'full' } as const;

/** Carries and waits until both sides are established with each other, and use other ids; the number of seconds that it took. */
function meet(pair: SessionPair): number {
  for (let second = 0; second <= 120; second += 1) {
    pair.settle();
    const [one, two] = [pair.a.loop.session?.agreement, pair.b.loop.session?.agreement];
    const isMutual = one?.self.nonce === two?.peer.nonce && two?.self.nonce === one?.peer.nonce;
    if (one !== undefined && isMutual && one.isOdd !== two?.isOdd) return second;
    pair.clock.advance(1000);
  }
  throw new Error('the two sides did not get together');
}

/** A stream from each side is transferred completely. All that is wrong. */
function faultsOf(pair: SessionPair, traffic: Traffic): string[] {
  const ends = pair.sides.map((side) => traffic.open(side));
  for (const end of ends) end?.send(10_000);
  pair.settle();
  const missing = ends.filter((end) => end?.other?.receivedBytes !== 10_000);
  traffic.finishAll();
  pair.settle();
  const left = traffic.ends.filter((end) => !end.isOver);
  return [...traffic.faults(), ...missing.map(() => 'bytes are missing'), ...left.map(() => 'an end is left')];
}

for (const [when, capacityBytes, first, last] of [
  ['an opening', 1000, 0, 30],
  ['a session', 700, 1, 40],
] as const) {
  test(`R-CHANNEL-1: either side, or both, restart anywhere in ${when}: a prefix of each stream has come, and the two get together`, (t) => {
    for (const who of ['a', 'b', 'both'] as const) {
      for (let steps = first; steps < last; steps += 1) {
        const pair = new SessionPair({ ...SMALL, capacityBytes });
        const traffic = new Traffic(pair);
        if (when === 'an opening') pair.start();
        else pair.establish();
        for (const side of pair.sides) traffic.open(side)?.send(20_000);
        for (let step = 0; step < steps; step += 1) pair.step(97 + 7 * steps);
        if (who !== 'b') pair.a.restart();
        if (who !== 'a') pair.b.restart();
        t.true(meet(pair) < 20);
        t.deepEqual([...traffic.faults(), ...faultsOf(pair, traffic)], [], `${who}, ${steps} steps`);
        const { endings } = who === 'a' ? pair.b : pair.a;
        const isNoticed = ['peer-restarted', 'desync'].includes(endings[0]?.code ?? '');
        t.true(when === 'an opening' || who === 'both' || isNoticed);
      }
    }
  });
}

import test from 'ava';
import fc from 'fast-check';
import { SessionPair } from '../helpers/session-pair.js';
import { Traffic } from '../helpers/traffic.js';

const SMALL = { limits: { frame: 4096, streamCredit: 2048, inFlight: 4096 }, integrity: 'full' } as const;

/** Carries and waits until both sides are established with each other; returns the number of seconds that it took. */
function meet(pair: SessionPair, pieceBytes = 65_536, seconds = 120): number {
  for (let second = 0; second <= seconds; second += 1) {
    pair.settle(pieceBytes);
    const { a, b } = pair;
    const [one, two] = [a.loop.session, b.loop.session];
    if (one !== null && two !== null && one.agreement.self.nonce === two.agreement.peer.nonce) {
      if (two.agreement.self.nonce === one.agreement.peer.nonce) {
        if (one.agreement.isOdd === two.agreement.isOdd) throw new Error('both use the same ids');
        return second;
      }
    }
    pair.clock.advance(1000);
  }
  throw new Error('the two sides did not get together');
}

/**
 * Makes a loss visible that nothing has shown yet: where the end of a frame was lost, what comes next is taken for it,
 * until the frame is complete or has taken too long (R-FLOW-9). The PINGs are enough for that.
 */
function meetForGood(pair: SessionPair): void {
  meet(pair);
  for (let second = 0; second < 60; second += 1) {
    pair.clock.advance(1000);
    pair.settle();
  }
  meet(pair);
}

/**
 * A stream from each side is transferred completely. Throws where it does not: fast-check looks for the smallest case
 * then.
 */
function works(pair: SessionPair, traffic: Traffic): void {
  const ends = [pair.a, pair.b].map((side) => traffic.open(side));
  for (const end of ends) end?.send(10_000);
  pair.settle();
  const received = ends.map((end) => end?.other?.receivedBytes);
  if (received.some((bytes) => bytes !== 10_000)) throw new Error(`${received.join(' and ')} bytes came`);
  traffic.finishAll();
  pair.settle();
  const faults = traffic.faults();
  if (faults.length > 0) throw new Error(faults.join('; '));
  const left = traffic.ends.filter((end) => !end.isOver).length;
  if (left > 0) throw new Error(`${left} ends are left`);
}

test('R-CHANNEL-1: either side, or both, restart at any byte of an opening, and the two get together', (t) => {
  for (const who of ['a', 'b', 'both'] as const) {
    for (let steps = 0; steps < 30; steps += 1) {
      const pair = new SessionPair({ ...SMALL, capacityBytes: 1000 });
      const traffic = new Traffic(pair);
      pair.a.loop.start();
      pair.b.loop.start();
      for (let step = 0; step < steps; step += 1) pair.step(331);
      if (who !== 'b') pair.a.restart();
      if (who !== 'a') pair.b.restart();
      t.true(meet(pair) < 20);
      works(pair, traffic);
    }
  }
});

test('R-CHANNEL-1: either side restarts at any byte of a session: a prefix of each stream has come, and the next session works', (t) => {
  for (const who of ['a', 'b', 'both'] as const) {
    for (let steps = 1; steps < 40; steps += 1) {
      const pair = new SessionPair({ ...SMALL, capacityBytes: 700 });
      const traffic = new Traffic(pair);
      pair.establish();
      for (const side of [pair.a, pair.b]) traffic.open(side)?.send(20_000);
      for (let step = 0; step < steps; step += 1) pair.step(97 + steps);
      if (who !== 'b') pair.a.restart();
      if (who !== 'a') pair.b.restart();
      meet(pair);
      t.deepEqual(traffic.faults(), []);
      works(pair, traffic);
      const survivor = who === 'a' ? pair.b : pair.a;
      if (who !== 'both') t.true(['peer-restarted', 'desync'].includes(survivor.endings[0]?.code ?? ''));
    }
  }
});

test('R-OPEN-11: a HELLO that is lost after the other side was established does not keep the two apart', (t) => {
  const pair = new SessionPair(SMALL);
  const traffic = new Traffic(pair);
  pair.a.loop.start();
  pair.settle();
  pair.b.loop.start();
  // Carry until one of them is established; then all that it wrote is lost, its establishing HELLO too.
  while (pair.a.loop.session === null && pair.b.loop.session === null) pair.step(200);
  const isA = pair.a.loop.session !== null;
  t.true(isA !== (pair.b.loop.session !== null));
  (isA ? pair.a : pair.b).outbound.clear();
  const seconds = meet(pair);
  t.true(seconds >= 3 && seconds <= 8, `${seconds}`);
  works(pair, traffic);
});

test('R-FRAME-3: bytes that are lost or repeated in a session end it with desync or a restart, never with a wrong byte', (t) => {
  for (let turn = 0; turn < 200; turn += 1) {
    const pair = new SessionPair({ ...SMALL, capacityBytes: 5000 });
    const traffic = new Traffic(pair);
    pair.establish();
    for (const side of [pair.a, pair.b]) for (let n = 0; n < 3; n += 1) traffic.open(side)?.send(9000);
    for (let step = 0; step < turn % 17; step += 1) pair.step(700 + turn);
    const at = (turn * 37) % 2000;
    const count = 1 + ((turn * 53) % 1500);
    pair.a.outbound.mangle((bytes) =>
      turn % 2 === 0
        ? Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + count)])
        : Buffer.concat([bytes.subarray(0, at + count), bytes.subarray(at)]),
    );
    meetForGood(pair);
    t.deepEqual(traffic.faults(), []);
    works(pair, traffic);
    for (const { code } of [...pair.a.endings, ...pair.b.endings]) {
      t.true(['desync', 'peer-restarted'].includes(code), code);
    }
  }
});

test('R-FLOW-9: the end of a frame that was lost while nothing follows shows by the PINGs', (t) => {
  const pair = new SessionPair(SMALL);
  const traffic = new Traffic(pair);
  pair.establish();
  traffic.open(pair.a)?.send(1000);
  pair.a.outbound.mangle((bytes) => bytes.subarray(0, bytes.length - 900));
  pair.settle();
  t.deepEqual(pair.b.endings, []);
  meetForGood(pair);
  t.is(pair.b.endings[0]?.code, 'desync');
  works(pair, traffic);
});

test('R-OPEN-3: stale bytes of an earlier session, whole frames and HELLOs among them, do no harm', (t) => {
  const earlier = new SessionPair(SMALL);
  const traffic = new Traffic(earlier);
  const recorded: Buffer[] = [];
  earlier.b.outbound.isStalled = false;
  earlier.establish();
  for (const side of [earlier.a, earlier.b]) traffic.open(side)?.send(5000);
  earlier.b.restart();
  const take = () => {
    const { bytes } = earlier.b.outbound.take(2 ** 20);
    recorded.push(bytes);
    earlier.a.loop.receive(Buffer.from(bytes));
    earlier.b.loop.receive(earlier.a.outbound.take(2 ** 20).bytes);
  };
  for (let turn = 0; turn < 10; turn += 1) {
    take();
    earlier.clock.advance(500);
  }
  const stale = Buffer.concat(recorded);
  for (let at = 0; at < stale.length; at += Math.ceil(stale.length / 40)) {
    const pair = new SessionPair(SMALL);
    const next = new Traffic(pair);
    pair.b.outbound.mangle(() => Buffer.from(stale.subarray(at)));
    pair.a.loop.start();
    pair.b.loop.start();
    meet(pair);
    works(pair, next);
  }
  t.pass();
});

test('R-CHANNEL-1: the two get together after any mixture of restarts, losses and repeats', (t) => {
  const event = fc.record({
    what: fc.constantFrom('restart', 'restart', 'lose', 'repeat', 'garbage', 'wait', 'step', 'stall'),
    isA: fc.boolean(),
    amount: fc.nat(6000),
  });
  const options = fc.record({
    capacityBytes: fc.constantFrom(50, 700, 20_000),
    pieceBytes: fc.integer({ min: 30, max: 3000 }),
    events: fc.array(event, { maxLength: 12 }),
  });
  fc.assert(
    fc.property(options, ({ capacityBytes, pieceBytes, events }) => {
      const pair = new SessionPair({ ...SMALL, capacityBytes });
      const traffic = new Traffic(pair);
      pair.a.loop.start();
      pair.b.loop.start();
      for (const { what, isA, amount } of events) {
        const side = isA ? pair.a : pair.b;
        if (what === 'restart') side.restart();
        else if (what === 'lose') side.outbound.mangle((bytes) => bytes.subarray(amount));
        else if (what === 'repeat')
          side.outbound.mangle((bytes) => Buffer.concat([bytes, bytes.subarray(-Math.min(amount, 1000))]));
        else if (what === 'garbage')
          side.outbound.mangle((bytes) => Buffer.concat([bytes, Buffer.alloc(amount % 300, amount)]));
        else if (what === 'wait') pair.clock.advance(amount);
        else if (what === 'stall') pair.clock.jump(amount * 1000);
        traffic.open(side)?.send(amount);
        for (let step = 0; step < amount % 40; step += 1) pair.step(pieceBytes);
      }
      meetForGood(pair);
      works(pair, traffic);
    }),
    { numRuns: 400, includeErrorInReport: true },
  );
  t.pass();
});

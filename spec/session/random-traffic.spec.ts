import test from 'ava';
import fc from 'fast-check';
import { SessionPair } from '../helpers/session-pair.js';
import { Traffic } from '../helpers/traffic.js';

const operation = fc.record({
  what: fc.constantFrom(
    ...['open', 'open', 'send', 'send', 'send', 'finish', 'finish', 'reset', 'stop', 'pause', 'resume'],
    ...['step', 'step', 'step', 'step', 'settle', 'time', 'restart', 'drain'],
  ),
  index: fc.nat(1000),
  amount: fc.nat(40_000),
});

const scenario = fc.record({
  capacityBytes: fc.constantFrom(40, 300, 4096, 100_000),
  pieceBytes: fc.integer({ min: 20, max: 20_000 }),
  integrity: fc.boolean(),
  limits: fc.record({
    frame: fc.constantFrom(4096, 20_000),
    streamCredit: fc.constantFrom(1024, 5000, 65_536),
    inFlight: fc.constantFrom(1024, 10_000, 2 ** 20),
    streams: fc.constantFrom(1, 3, 1024),
    opens: fc.constantFrom(1, 3, 256),
  }),
  operations: fc.array(operation, { maxLength: 60 }),
});

/** How often: `LONG=1` for the search that takes hours. */
const numRuns = process.env['LONG'] === undefined ? 1000 : 200_000;

test('whatever happens, what is delivered is a prefix of what was sent, and all of it where a stream ended in order', (t) => {
  fc.assert(
    fc.property(scenario, ({ capacityBytes, pieceBytes, integrity, limits, operations }) => {
      // Without checksums a flush may complete a frame with zeros: no restarts then (R-INTEGRITY-1).
      const canRestart = integrity;
      const pair = new SessionPair({ capacityBytes, integrity, limits });
      const traffic = new Traffic(pair);
      pair.establish();
      for (const { what, index, amount } of operations) {
        const side = index % 2 === 0 ? pair.a : pair.b;
        const end = traffic.ends[index % Math.max(traffic.ends.length, 1)];
        if (what === 'open') traffic.open(side)?.send(amount);
        else if (what === 'send') end?.send(amount);
        else if (what === 'finish') end?.finish();
        else if (what === 'reset') end?.stream?.reset('cancelled', 'at random');
        else if (what === 'stop') end?.stop();
        else if (what === 'pause' && end !== undefined) end.isPaused = true;
        else if (what === 'resume') end?.resume();
        else if (what === 'settle') pair.settle(pieceBytes);
        else if (what === 'time') pair.clock.advance(amount % 5000);
        else if (what === 'restart' && canRestart && amount % 4 === 0) side.restart();
        else if (what === 'drain' && amount % 8 === 0) side.loop.session?.drain('at random');
        else for (let step = 0; step < amount % 50; step += 1) pair.step(pieceBytes);
        const faults = traffic.faults();
        if (faults.length > 0) throw new Error(`after ${what}: ${faults.join('; ')}`);
      }
      // No fault lasts: both sides settle, and no stream is left at one end only.
      for (let second = 0; second < 60; second += 1) {
        traffic.finishAll();
        pair.settle(pieceBytes);
        if (traffic.ends.every((end) => end.isOver) && pair.a.loop.session !== null && pair.b.loop.session !== null)
          break;
        pair.clock.advance(1000);
      }
      const left = traffic.ends.filter((end) => !end.isOver).length;
      if (left > 0) throw new Error(`${left} ends of streams are left`);
      const faults = traffic.faults();
      if (faults.length > 0) throw new Error(faults.join('; '));
      for (const { session, settings, endings } of [pair.a, pair.b]) {
        if (session.streamCount > 0) throw new Error(`${session.streamCount} streams are left`);
        if (settings.receiveBudget.usedBytes !== 0)
          throw new Error(`${settings.receiveBudget.usedBytes} bytes are reserved`);
        const codes = endings.map(({ code }) => code);
        const unexpected = codes.filter((code) => !['peer-restarted', 'desync', 'shutdown'].includes(code));
        if (unexpected.length > 0) throw new Error(endings.join());
        if (!canRestart && codes.includes('desync')) throw new Error('desync without a fault');
      }
    }),
    { numRuns, includeErrorInReport: true },
  );
  t.pass();
});

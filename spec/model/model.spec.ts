/** The model: the invariants hold whatever happens (docs/testing.md). */
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import { searchRuns } from '../helpers/searches.js';
import './egress.js';
import './keeper.js';
import type { ModelSideOptions } from './model.js';
import { runScenario } from './run-scenario.js';
import { type Operation, type OperationName, type Scenario, scenarios } from './scenario.js';

/** The number of scenarios; `LONG=1` runs the search that takes minutes. */
const numRuns = process.env['LONG'] === undefined ? searchRuns(5000) : 200_000;

const seed = process.env['SEED'] === undefined ? Date.now() | 0 : Number(process.env['SEED']);

test('R-CHANNEL-1: whatever happens, streams deliver what was sent, credits are kept, and both sides establish a session again', (t) => {
  const sums = { frames: 0, endings: 0, streams: 0, deliveredBytes: 0 };
  fc.assert(
    fc.property(scenarios, (scenario) => {
      const figures = runScenario(scenario);
      for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += figures[key];
    }),
    { numRuns, seed, includeErrorInReport: true },
  );
  t.log(`${numRuns} scenarios (seed ${seed}):`, sums);
  t.true(sums.streams > numRuns);
});

// ---- scenarios that once failed, each as small as possible, and some that a random search would hardly find ---------------

const SIDE: ModelSideOptions = { limits: DEFAULT_LIMITS, integrity: 'frame', budgetBytes: 0, deadAfterMs: null };

const PLAIN: Omit<Scenario, 'operations'> = {
  link: { capacityBytes: 100_000, latencyMs: 0 },
  beginsEstablished: true,
  pieceBytes: 65_536,
  a: SIDE,
  b: SIDE,
  identity: 0,
};

const small = { ...SIDE, limits: { ...DEFAULT_LIMITS, frame: 4096 } };

const does = (what: OperationName, index = 0, amount = 0): Operation => ({ what, index, amount });

/** The properties of a scenario, besides its operations, that differ from `PLAIN`. */
type Given = Partial<Omit<Scenario, 'operations'>>;

const through = (capacityBytes: number): Given => ({ link: { capacityBytes, latencyMs: 0 } });
const SMALL: Given = { a: small, b: small };

function runs(t: ExecutionContext, given: Given, ...operations: Operation[]): void {
  t.notThrows(() => runScenario({ ...PLAIN, ...given, operations }));
}

test('R-STREAM-8: no DATA of a stream follows its RESET into a channel that has room again', (t) => {
  const given = { ...through(4096), ...SMALL, pieceBytes: 20 };
  runs(t, given, does('open', 0, 5121), does('step', 0, 14_908), does('reset'));
});

test('a buffer that the channel still holds is not returned when its session ends', (t) => {
  runs(t, through(40), does('open'), does('send', 0, 2314), does('drain'), does('step'));
});

test('R-LIVE-2: a side that stood still for half a day does not declare its peer dead', (t) => {
  const strict = { ...SIDE, deadAfterMs: 30_000 };
  const operations = [does('open', 0, 9000), does('step'), does('jump', 0, 40_000), does('jump', 1, 39_999)];
  t.is(runScenario({ ...PLAIN, a: strict, operations }).endings, 0);
});

test('R-FLOW-4: a grown window returns to the budget when its stream has ended and then drained', (t) => {
  const wide = { ...SIDE, limits: { ...DEFAULT_LIMITS, streamCredit: 1024 }, budgetBytes: 2 ** 20 };
  // The second end reads at first, then stops; everything sent after that fits its window.
  const reads = [does('open', 0, 10_000), does('settle'), does('pause', 2), does('send', 0, 500)];
  runs(t, { a: wide, b: wide }, ...reads, does('finish', 0), does('finish', 2), does('settle'), does('resume', 2));
});

test('R-LIVE-3: an open that crosses a GOAWAY counts as refused, and needs no RESET when the drain times out', (t) => {
  runs(t, SMALL, does('open'), does('drain'), does('open', 189), does('step'), does('jump', 0, 29));
});

test('R-OPEN-11: losing an answer while the other side is established does not keep the two apart', (t) => {
  const checked = { ...SIDE, integrity: 'full' } as const;
  const given = { a: checked, b: checked, beginsEstablished: false };
  for (let steps = 0; steps < 8; steps += 1) {
    // Nothing is established yet: each step carries what one side has written.
    const before = Array.from({ length: steps }, () => does('step'));
    for (const index of [4, 5]) runs(t, given, ...before, does('lose', index), does('settle'));
  }
});

test('the observer knows that a repeated piece has arrived, even if its copy is cut', (t) => {
  const given: Given = { a: small, b: { ...small, integrity: 'full' }, pieceBytes: 20 };
  runs(t, given, does('open', 397), does('repeat', 469), does('step', 0, 1));
});

test('a link that gets room because bytes were lost reports it to the waiting writer', (t) => {
  const given = { ...through(300), ...SMALL, beginsEstablished: false };
  runs(t, given, does('wait'), does('open', 0, 250), does('lose'), does('late', 0, 2500), does('step'));
});

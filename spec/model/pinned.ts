/** Scenarios that once failed, each as small as possible, and some that random search would hardly find. */
import test, { type ExecutionContext } from 'ava';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import type { ModelSideOptions } from './model-side.js';
import { runScenario } from './run-scenario.js';
import type { Operation, OperationName, Scenario } from './scenario.js';

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

/** What a scenario has besides its operations, where it differs from `PLAIN`. */
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

test('a buffer that the channel still holds does not come back when its session ends', (t) => {
  runs(t, through(40), does('open'), does('send', 0, 2314), does('drain'), does('step'));
});

test('R-LIVE-2: a side that stood still for half a day does not take its peer for dead', (t) => {
  const strict = { ...SIDE, deadAfterMs: 30_000 };
  const operations = [does('open', 0, 9000), does('step'), does('jump', 0, 40_000), does('jump', 1, 39_999)];
  t.is(runScenario({ ...PLAIN, a: strict, operations }).endings, 0);
});

test('R-FLOW-4: a window that has grown goes back to the budget when its stream has ended and then drained', (t) => {
  const wide = { ...SIDE, limits: { ...DEFAULT_LIMITS, streamCredit: 1024 }, budgetBytes: 2 ** 20 };
  // The second end reads at first, and then no more; all that is sent then fits its window.
  const reads = [does('open', 0, 10_000), does('settle'), does('pause', 2), does('send', 0, 500)];
  runs(t, { a: wide, b: wide }, ...reads, does('finish', 0), does('finish', 2), does('settle'), does('resume', 2));
});

test('R-LIVE-3: an open that crosses a GOAWAY counts as refused, and needs no RESET when the drain takes too long', (t) => {
  runs(t, SMALL, does('open'), does('drain'), does('open', 189), does('step'), does('jump', 0, 29));
});

test('R-OPEN-11: an answer that is lost while the other side is established keeps nobody apart', (t) => {
  const checked = { ...SIDE, integrity: 'full' } as const;
  const given = { a: checked, b: checked, beginsEstablished: false };
  for (let steps = 0; steps < 8; steps += 1) {
    // Nothing is established yet: each step carries what one side has written.
    const before = Array.from({ length: steps }, () => does('step'));
    for (const index of [4, 5]) runs(t, given, ...before, does('lose', index), does('settle'));
  }
});

test('who watches knows that a piece which comes twice has come, also where its copy is cut', (t) => {
  const given: Given = { a: small, b: { ...small, integrity: 'full' }, pieceBytes: 20 };
  runs(t, given, does('open', 397), does('repeat', 469), does('step', 0, 1));
});

test('a link whose room comes from what was lost tells the writer that waits', (t) => {
  const given = { ...through(300), ...SMALL, beginsEstablished: false };
  runs(t, given, does('wait'), does('open', 0, 250), does('lose'), does('late', 0, 2500), does('step'));
});

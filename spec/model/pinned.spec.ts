/** Scenarios that once failed, each as small as it could be made, and some that chance would hardly find. */
import test from 'ava';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import type { SideOptions } from './model-side.js';
import { runScenario } from './run-scenario.js';
import type { Operation, OperationName, Scenario } from './scenario.js';

const SIDE: SideOptions = { limits: DEFAULT_LIMITS, integrity: false, budgetBytes: 0, deadAfterMs: null };

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

test('R-STREAM-8: no DATA of a stream follows its RESET into a channel that has room again', (t) => {
  const link = { capacityBytes: 4096, latencyMs: 0 };
  const operations = [does('open', 0, 5121), does('step', 0, 14_908), does('reset')];
  t.notThrows(() => runScenario({ ...PLAIN, link, a: small, b: small, pieceBytes: 20, operations }));
});

test('a buffer that the channel still holds does not come back when its session ends', (t) => {
  const link = { capacityBytes: 40, latencyMs: 0 };
  const operations = [does('open'), does('send', 0, 2314), does('drain'), does('step')];
  t.notThrows(() => runScenario({ ...PLAIN, link, operations }));
});

test('a week without a word, with a stream open, ends nothing', (t) => {
  const hours = Array.from({ length: 56 }, () => does('hours', 0, 2));
  const operations = [does('open', 0, 1000), does('settle'), ...hours, does('send', 0, 1000), does('settle')];
  const { endings } = runScenario({ ...PLAIN, operations });
  t.is(endings, 0);
});

test('R-LIVE-2: a side that stood still for half a day does not take its peer for dead', (t) => {
  const strict = { ...SIDE, deadAfterMs: 30_000 };
  const operations = [does('open', 0, 9000), does('step'), does('jump', 0, 40_000), does('jump', 1, 39_999)];
  const { endings } = runScenario({ ...PLAIN, a: strict, operations });
  t.is(endings, 0);
});

/** Runs a scenario, checks the invariants all the time, and throws at the first fault. */
import { faultsAtRest, faultsNow, isSameSession } from './invariants.js';
import { Model } from './model.js';
import { act } from './operations.js';
import type { Scenario } from './scenario.js';

/** Once no fault happens any more, something must move at least once in this time, until all is done. */
const PATIENCE_MS = 120_000;

/** Longer than any scenario that makes progress takes. */
const MAX_MS = 48 * 3_600_000;

/** What each end of a fresh stream sends. */
const FRESH_BYTES = 3000;

export interface Figures {
  readonly frames: number;
  /** Sessions that ended, as each side saw it. */
  readonly endings: number;
  readonly streams: number;
  readonly deliveredBytes: number;
}

export function runScenario(scenario: Scenario): Figures {
  const model = new Model(scenario);
  const fail = (when: string, faults: readonly string[]): void => {
    if (faults.length > 0) throw new Error(`${when}: ${faults.join('; ')}`);
  };
  if (scenario.beginsEstablished) model.wait(10_000, 65_536);
  for (const [index, operation] of scenario.operations.entries()) {
    act(model, operation);
    model.cutIfSilent();
    const when = `after operation ${index} (${operation.what})`;
    fail(when, faultsNow(model));
    fail(when, faultsAtRest(model));
  }
  recover(model);
  fail('at the end', [...faultsNow(model), ...faultsAtRest(model), ...leftovers(model)]);
  proveLife(model);
  fail('with fresh streams', [...faultsNow(model), ...faultsAtRest(model), ...leftovers(model)]);
  const endings = model.a.endings.length + model.b.endings.length;
  for (const side of model.sides) {
    side.kill();
    fail('after the end', side.leftovers());
  }
  fail(
    'after the end',
    model.traffic.ends.flatMap(({ lentBuffers }) => (lentBuffers > 0 ? ['a buffer never came back'] : [])),
  );
  return {
    frames: model.observer.frameCount,
    endings,
    streams: model.traffic.ends.length,
    deliveredBytes: model.traffic.ends.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0),
  };
}

/** No fault happens any more: both sides come together, and every stream ends. */
function recover(model: Model): void {
  for (const side of model.sides) {
    model.thaw(side);
    side.outbound.isStalled = false;
  }
  // First without reading: what ended in order drains only afterwards.
  for (const end of model.traffic.ends) end.finish();
  model.wait(1000, 65_536);
  let moved = '';
  let movedAtMs = model.nowMs;
  let settledAtMs: number | null = null;
  const startedAtMs = model.nowMs;
  for (;;) {
    model.traffic.finishAll();
    model.wait(1000, 65_536);
    model.cutIfSilent();
    const { ends } = model.traffic;
    const isDone = isSameSession(model) && ends.every(({ isOver }) => isOver);
    settledAtMs = isDone ? (settledAtMs ?? model.nowMs) : null;
    // A loss that nothing has shown yet is detected by the PINGs (R-FLOW-9).
    const calmMs = model.happened.has('mangle') || model.happened.has('restart') ? 75_000 : 0;
    if (settledAtMs !== null) movedAtMs = settledAtMs;
    if (settledAtMs !== null && model.nowMs - settledAtMs >= calmMs && model.isQuiet) return;
    const state = ends.map((end) => `${end.receivedBytes} ${end.isOver}`).join();
    if (state !== moved) {
      moved = state;
      movedAtMs = model.nowMs;
    }
    if (model.nowMs - movedAtMs > PATIENCE_MS || model.nowMs - startedAtMs > MAX_MS) {
      const left = ends.filter(({ isOver }) => !isOver).length;
      const who = model.sides.map(({ name, loop }) => `${name} ${loop.session === null ? 'opens' : 'is established'}`);
      throw new Error(`nothing moves any more: ${left} ends of streams are left, ${who.join(', ')}`);
    }
  }
}

function proveLife(model: Model): void {
  const { ends } = model.traffic;
  const first = ends.length;
  for (const side of model.sides) model.traffic.open(side)?.send(FRESH_BYTES);
  for (let second = 0; second < 100; second += 1) {
    model.wait(1000, 65_536);
    const fresh = ends.slice(first);
    if (fresh.length === 4 && fresh.every(({ isOver }) => isOver)) break;
    for (const end of fresh) {
      if (end.wantedBytes === 0) end.send(FRESH_BYTES);
      end.finish();
    }
  }
  const isWhole = ends
    .slice(first)
    .map((end) => end.isOver && end.reason === null && end.receivedBytes === FRESH_BYTES);
  if (isWhole.join() !== 'true,true,true,true') throw new Error(`fresh streams came through whole: ${isWhole.join()}`);
  model.wait(5000, 65_536);
}

function leftovers(model: Model): string[] {
  const faults: string[] = [];
  for (const { name, loop, settings } of model.sides) {
    const { session } = loop;
    if (session === null) faults.push(`${name} has no session`);
    else if (session.streams.size > 0) faults.push(`${session.streams.size} streams are left at ${name}`);
    if (settings.receiveBudget.usedBytes !== 0)
      faults.push(`${settings.receiveBudget.usedBytes} bytes are reserved at ${name}`);
  }
  return faults;
}

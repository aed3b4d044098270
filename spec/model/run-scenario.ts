/** Runs a scenario, checks the invariants throughout, and throws at the first fault. */

import type { ObservedHalf, SideName } from '../../conformance/wire-observer.js';
import type { PatternEnd } from '../helpers/local-ends.js';
import { Model, type ModelSide } from './model.js';
import { act } from './operations.js';
import type { Scenario } from './scenario.js';

/** After the last fault, something must move at least once in this time until everything is done. */
const PATIENCE_MS = 120_000;

/** Longer than any scenario that makes progress takes. */
const MAX_MS = 48 * 3_600_000;

/** The bytes that each end of a new stream sends. */
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

/** After the last fault: both sides establish a session, and every stream ends. */
function recover(model: Model): void {
  for (const side of model.sides) {
    model.thaw(side);
    side.outbound.isStalled = false;
  }
  // First without reading: streams that ended in order drain only afterwards.
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
    // A loss not yet detected shows by the PINGs (R-FLOW-9).
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

// ---- invariants ---------------------------------------------------------------------------------------------------------

/** Faults to look for after every operation. */
function faultsNow(model: Model): string[] {
  const faults = [...model.faults, ...model.observer.faults, ...model.traffic.faults()];
  for (const { session, stream, isOver } of model.traffic.ends) {
    if (session?.isDraining === true && stream?.id === 0 && !isOver)
      faults.push('an open is held back while the session drains');
  }
  for (const side of model.sides) faults.push(...memoryFaults(model, side), ...endingFaults(model, side));
  return faults;
}

/**
 * Faults to look for when nothing is in flight and nothing was lost: both sides agree on what is open, and neither
 * waits without reason.
 */
function faultsAtRest(model: Model): string[] {
  if (!model.isQuiet) return [];
  if (model.traffic.ends.some(({ lentBuffers }) => lentBuffers > 0)) return ['a buffer does not come back'];
  const [a, b] = model.sides;
  const [one, two] = [a.loop.session, b.loop.session];
  if (one === null || two === null || !isSameSession(model)) return [];
  const halves = halvesNow(model);
  if (halves === null || halves.a.hearsDoubtfully || halves.b.hearsDoubtfully) return [];
  const faults: string[] = [];
  const [atA, atB] = [one.streams.size, two.streams.size];
  if (atA !== atB) faults.push(`${atA} streams at a, ${atB} at b`);
  for (const end of model.traffic.ends) {
    if (!end.isOver && end.other !== null && end.other.isOver) faults.push('a stream is open at one end only');
  }
  for (const side of model.sides) {
    const other = side === a ? b : a;
    const known = [...(other.loop.session?.peerServices.names ?? [])].sort().join(' ');
    if (known !== [...side.services].sort().join(' '))
      faults.push(`${other.name} does not know the services of ${side.name}`);
    const half = halves[side.name];
    const opposite = half.other;
    // The credit of the session is raised when a quarter is used at the latest, whether or not streams are read.
    const left = opposite.grantedBytes - half.sentBytes;
    if (left < 0.75 * opposite.hello.limits.inFlight)
      faults.push(`${left} bytes of session credit are left to ${side.name}`);
    for (const end of endsOf(model, side)) faults.push(...idleFaults(end, half));
  }
  return faults;
}

function isSameSession({ a, b }: Model): boolean {
  const [one, two] = [a.loop.session?.agreement, b.loop.session?.agreement];
  if (one === undefined || two === undefined) return false;
  return one.self.nonce === two.peer.nonce && two.self.nonce === one.peer.nonce;
}

function halvesNow(model: Model): Record<SideName, ObservedHalf> | null {
  const agreement = model.a.loop.session?.agreement;
  if (agreement === undefined) return null;
  return model.observer.session({ a: agreement.self.nonce, b: agreement.peer.nonce });
}

function endsOf(model: Model, side: ModelSide): PatternEnd[] {
  return model.traffic.ends.filter((end) => end.session === side.loop.session && end.session !== null);
}

/** Checks that what a side holds and grants is within its windows, as seen on the wire, and the windows within the budget. */
function memoryFaults(model: Model, side: ModelSide): string[] {
  const agreement = side.loop.session?.agreement;
  if (agreement === undefined) return [];
  const nonces = side.name === 'a' ? [agreement.self, agreement.peer] : [agreement.peer, agreement.self];
  const half = model.observer.session({ a: nonces[0]?.nonce ?? '', b: nonces[1]?.nonce ?? '' })?.[side.name];
  if (half === undefined) return [];
  const { streamCredit } = side.options.limits;
  const faults: string[] = [];
  let beyondBytes = 0;
  for (const end of endsOf(model, side)) {
    const isGone = end.isOver && end.reason !== null;
    if (isGone || end.hasStopped) continue;
    const stream = half.streams.get(end.stream?.id ?? 0);
    const promisedBytes = Math.max(stream?.grantedBytes ?? 0, end.receivedBytes) - end.releasedBytes;
    // A stream that ended in order keeps its window until it has drained.
    if (!end.isOver || end.heldBytes > 0) beyondBytes += Math.max(promisedBytes - streamCredit, 0);
  }
  if (beyondBytes > side.options.budgetBytes) {
    faults.push(`${side.name} promises ${beyondBytes} bytes beyond its first credits and ${side.options.budgetBytes}`);
  }
  // R-FLOW-6 and R-FLOW-8: one session's worth of frames, its last frames, and the flush and HELLO of the next.
  const { frame } = side.options.limits;
  const boundBytes = 131_072 + 16_384 + 2 * (frame + 16) + 1024 * (2 + half.streams.size);
  const { unwrittenBytes } = side.outbound;
  if (unwrittenBytes > boundBytes) faults.push(`${unwrittenBytes} bytes wait in the channel of ${side.name}`);
  return faults;
}

/** Checks that sessions end for what happened, and for nothing else. */
function endingFaults({ happened }: Model, side: ModelSide): string[] {
  return side.endings.flatMap(({ code, message }, index) => {
    const silentMs = side.silencesMs[index] ?? 0;
    const isExplained =
      (code === 'shutdown' && (happened.has('drain') || message === 'killed')) ||
      (code === 'channel-closed' && happened.has('cut')) ||
      (code === 'channel-silent' && silentMs >= (side.options.deadAfterMs ?? Number.POSITIVE_INFINITY) / 2) ||
      (code === 'desync' && (happened.has('restart') || happened.has('mangle'))) ||
      // A handshake that takes too long starts over, which looks like a restart to a side that is already established.
      code === 'peer-restarted';
    return isExplained ? [] : [`a session of ${side.name} ended: ${code}: ${message}`];
  });
}

/** Checks that, at rest, a waiting side waits for the program at the other side. */
function idleFaults(end: PatternEnd, half: ObservedHalf): string[] {
  const { stream } = end;
  if (stream === null || end.isOver) return [];
  if (stream.id === 0) {
    const { streams, opens } = half.other.hello.limits;
    const { open, unanswered } = half.countOwn();
    return open < streams && unanswered < opens ? ['an open is held back although there is room'] : [];
  }
  const observed = half.streams.get(stream.id);
  if (observed === undefined || !stream.isWaiting) return [];
  const isAnswered = stream.isAnswered;
  if (!isAnswered && (stream.isIncoming || observed.sentBytes === 16_384)) return [];
  if (observed.sentBytes < observed.creditBytes)
    return [`${observed.creditBytes - observed.sentBytes} bytes of credit are not used`];
  const reader = end.other;
  // Credit is renewed when half of a window is released; a reader that stopped renews nothing.
  const isHeld = reader === null || reader.hasStopped || 2 * reader.heldBytes > half.other.hello.limits.streamCredit;
  return isHeld ? [] : [`no credit comes although the reader holds ${reader.heldBytes} bytes only`];
}

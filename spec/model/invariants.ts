/** What must hold in the model: after every operation, when everything is at rest, and at the end. */
import type { PatternEnd } from '../helpers/local-ends.js';
import type { Model } from './model.js';
import type { ModelSide } from './model-side.js';
import type { ObservedHalf } from './observed-session.js';
import type { SideName } from './wire-observer.js';

/** Faults to look for after every operation. */
export function faultsNow(model: Model): string[] {
  const faults = [...model.faults, ...model.observer.faults, ...model.traffic.faults()];
  for (const { session, stream, isOver } of model.traffic.ends) {
    if (session?.isDraining === true && stream?.id === 0 && !isOver)
      faults.push('an open is held back while the session drains');
  }
  for (const side of model.sides) faults.push(...memoryFaults(model, side), ...endingFaults(model, side));
  return faults;
}

/**
 * Faults to look for when nothing is on its way and nothing was lost: both sides agree on what is open, and neither
 * waits without reason.
 */
export function faultsAtRest(model: Model): string[] {
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

export function isSameSession({ a, b }: Model): boolean {
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

/** What a side holds and grants is within its windows, as seen on the wire, and the windows within the budget. */
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
    // What ended in order keeps its window until it has drained.
    if (!end.isOver || end.heldBytes > 0) beyondBytes += Math.max(promisedBytes - streamCredit, 0);
  }
  if (beyondBytes > side.options.budgetBytes) {
    faults.push(`${side.name} promises ${beyondBytes} bytes beyond its first credits and ${side.options.budgetBytes}`);
  }
  // R-FLOW-6 and R-FLOW-8: one session's worth of frames, what ends it, and the flush and HELLO of the next.
  const { frame } = side.options.limits;
  const boundBytes = 131_072 + 16_384 + 2 * (frame + 16) + 1024 * (2 + half.streams.size);
  const { unwrittenBytes } = side.outbound;
  if (unwrittenBytes > boundBytes) faults.push(`${unwrittenBytes} bytes wait in the channel of ${side.name}`);
  return faults;
}

/** Sessions end for what happened, and for nothing else. */
function endingFaults({ happened }: Model, side: ModelSide): string[] {
  return side.endings.flatMap(({ code, message }, index) => {
    const silentMs = side.silencesMs[index] ?? 0;
    const isExplained =
      (code === 'shutdown' && (happened.has('drain') || message === 'killed')) ||
      (code === 'channel-closed' && happened.has('cut')) ||
      (code === 'channel-silent' && silentMs >= (side.options.deadAfterMs ?? Number.POSITIVE_INFINITY) / 2) ||
      (code === 'desync' && (happened.has('restart') || happened.has('mangle'))) ||
      // An opening that takes too long is repeated, which looks like a restart to a side that is established already.
      code === 'peer-restarted';
    return isExplained ? [] : [`a session of ${side.name} ended: ${code}: ${message}`];
  });
}

/** When everything is at rest, a side that waits does so for the program at the other side. */
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
  // Credit is renewed when half of a window is released; a reader that takes no more renews nothing.
  const isHeld = reader === null || reader.hasStopped || 2 * reader.heldBytes > half.other.hello.limits.streamCredit;
  return isHeld ? [] : [`no credit comes although the reader holds ${reader.heldBytes} bytes only`];
}

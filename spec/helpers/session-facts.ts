/** What of a session must be the same in the process that takes it over. */
import { deserialize, serialize } from 'node:v8';
import type { Session, SessionState } from '../../lib/session/session.js';

/** A capture without what may differ: how kept bytes are divided, and turns of streams that are over. */
export function comparable(capture: SessionState): unknown {
  const { continuity, scheduler, streams } = capture;
  const ids = new Set(streams.map(({ id }) => id));
  const alive = (row: readonly number[]): number[] => row.filter((id) => ids.has(id));
  const { ready } = scheduler;
  return deserialize(
    serialize({
      ...capture,
      continuity: continuity && {
        ...continuity,
        backlog: { ...continuity.backlog, pieces: Buffer.concat(continuity.backlog.pieces) },
      },
      scheduler: { ...scheduler, ready: { ...ready, small: alive(ready.small), others: alive(ready.others) } },
    }),
  );
}

/** What a session says of itself and its streams. */
export function visible(session: Session): unknown {
  const { counters, ageMs, roundTripMs, peerServices, isReady, isDraining, isSuspended, keyId } = session;
  const { unwrittenBytes, sendCreditBytes, receivedBytes, hasInteractive, agreement, secret } = session;
  return {
    ...{ counters, ageMs, roundTripMs, peerServices, isReady, isDraining, isSuspended, keyId },
    ...{ unwrittenBytes, sendCreditBytes, receivedBytes, hasInteractive, agreement, secretId: secret?.id },
    streamCount: session.streams.size,
    streams: session.streams.list().map((stream) => {
      const { id, service, from, isIncoming, openedAtMs, owner, isAnswered, isOver, isDraining: isLeft } = stream;
      const { sentBytes, grantedBytes, heldBytes, frameBytes, isWaiting, smallFrames } = stream;
      return {
        ...{ id, service, from, isIncoming, openedAtMs, owner, isAnswered, isOver, isLeft },
        ...{ sentBytes, grantedBytes, heldBytes, frameBytes, isWaiting, smallFrames },
        receivedBytes: stream.receivedBytes,
        sendCreditBytes: stream.sendCreditBytes,
        waitsFor: stream.waitsFor(sendCreditBytes),
      };
    }),
  };
}

/** The round trip through the peer of a session. */
import { VproxyError } from '../../errors.js';
import type { Session } from '../../session/session.js';
import { deferred } from '../../util/concurrency.js';
import { escapeText } from '../../util/escape.js';

/** Measures the round trip through the peer, in milliseconds. Rejects with `no-session`, after `timeoutMs` at the latest. */
export async function measureRoundTrip(session: Session, timeoutMs: number): Promise<number> {
  const answer = deferred<number>();
  const fail = (why: string) => answer.reject(new VproxyError('no-session', why));
  const onEnd = (reason: VproxyError) => fail(`the session ended: ${escapeText(reason.message)} (${reason.code})`);
  const cancel = session.clock.schedule(timeoutMs, () => fail(`no answer within ${timeoutMs / 1000} s`));
  const onMeasured = (roundTripMs: number) => answer.resolve(roundTripMs);
  session.once('measured', onMeasured).once('end', onEnd);
  session.measure();
  try {
    return await answer.promise;
  } finally {
    cancel();
    session.off('measured', onMeasured).off('end', onEnd);
  }
}

/** Why a destination is not reached, and what the person in the guest is told of it. */
import type { Verdict } from './admission.js';

/** Why a destination is not reached. */
export type RefusalReason =
  /** It is no plain name or address, or the port is none. */
  | 'bad-destination'
  /** The rules do not let it out. */
  | 'denied'
  /** There is no address for the name. */
  | 'not-found'
  /** No route leads there, or there is no room for another connection. */
  | 'unreachable'
  /** Nobody listens there. */
  | 'refused'
  /** There was no answer in time. */
  | 'timeout'
  /** The HTTP proxy behind which it is has not let it through, or cannot be used. */
  | 'upstream';

/**
 * A destination is not reached; the message is one line for the person in the guest, and tells no more than that person
 * may know. What the system said is its `cause`, for the log of this side.
 */
export class EgressRefusal extends Error {
  readonly reason: RefusalReason;
  /** For the log of this side. */
  readonly verdict: Verdict | null;

  constructor(reason: RefusalReason, message: string, verdict: Verdict | null = null, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
    this.verdict = verdict;
  }
}

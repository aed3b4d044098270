/** Which streams of the peer are let in, and how fast it may take them back (R-STREAM-3, R-STREAM-5, R-FLOW-6). */
import { type Limits, SERVICE_NAME } from '../codec/limits.js';
import { VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import type { SessionStream } from './session-stream.js';
import { TokenBucket } from './token-bucket.js';

/** Streams that are opened and reset by their opener before an answer: so many a second, and at once. */
const RESETS_PER_SECOND = 200;
const RESETS_BURST = 1000;

export class Admission {
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #announce: (stream: SessionStream) => void;
  readonly #resets: TokenBucket;

  constructor(options: {
    readonly clock: Clock;
    /** What this side announced. */
    readonly limits: Limits;
    /** Offers a stream to whoever serves it, by attaching a sink during the call. */
    readonly announce: (stream: SessionStream) => void;
  }) {
    this.#clock = options.clock;
    this.#limits = options.limits;
    this.#announce = options.announce;
    this.#resets = new TokenBucket(RESETS_PER_SECOND, RESETS_BURST, options.clock.now());
  }

  /** Announces a stream that the peer has opened, or refuses it. `hasRoom`: it is within the bounds of this side. */
  admit(stream: SessionStream, hasRoom: boolean, isDraining: boolean): void {
    const { service } = stream;
    if (!hasRoom) {
      const { streams, opens } = this.#limits;
      stream.refuse('too-many-streams', `${streams} streams or ${opens} unanswered ones are open`);
    } else if (isDraining) {
      stream.refuse('shutdown', 'the session is ending');
    } else if (!SERVICE_NAME.test(service)) {
      stream.refuse('unknown-service', `${escapeText(service, 64)} is no name of a service`);
    } else {
      this.#announce(stream);
      if (!stream.isAttached) stream.refuse('unknown-service', `service ${service} is not offered`);
    }
  }

  /** Counts a RESET of the peer. Throws `flood` where it takes back too many streams before their answer. */
  countReset(stream: SessionStream): void {
    if (!stream.isIncoming || stream.isAnswered || this.#resets.take(this.#clock.now())) return;
    throw new VproxyError('flood', `more than ${RESETS_PER_SECOND} streams a second are opened and reset`);
  }
}

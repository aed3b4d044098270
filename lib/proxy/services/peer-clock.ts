/** Tells a peer that follows this machine's clock the time, for as long as a session lasts (R-CLOCK-1). */
import type { ChannelAddress } from '../../channel/address/address.js';
import { ClockAnswers } from '../../services/clock/clock-answers.js';
import { CLOCK_SERVICE } from '../../services/clock/clock-messages.js';
import { MuxStream } from '../../session/mux-stream.js';
import type { Session } from '../../session/session.js';
import type { Clock } from '../../util/clock.js';

export class PeerClock {
  readonly #answers: ClockAnswers;
  /** The sessions whose peers are told, each with what ends it. */
  readonly #told = new WeakMap<Session, AbortController>();

  constructor({ kind, address, traits }: ChannelAddress, clock: Clock) {
    const isPrivate = kind.mode === 'listen' ? kind.isPrivate(address) : (kind.strangers?.(address) ?? null) === null;
    this.#answers = new ClockAnswers({ clock, isSecret: isPrivate || traits.tls !== null });
  }

  /** The services of a session's peer are known, or have changed. */
  update(session: Session): void {
    const isOffered = session.peerServices.names.has(CLOCK_SERVICE);
    const told = this.#told.get(session);
    if (isOffered === (told !== undefined)) return;
    told?.abort();
    this.#told.delete(session);
    if (!isOffered) return;
    const ending = new AbortController();
    this.#told.set(session, ending);
    session.once('end', () => ending.abort());
    void this.#answers.run(() => MuxStream.open(session, CLOCK_SERVICE), ending.signal);
  }
}

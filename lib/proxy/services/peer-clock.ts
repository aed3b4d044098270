/** Tells a peer that follows this machine's clock the time, for as long as a session lasts (R-CLOCK-1). */
import type { ChannelAddress } from '../../channel/address/address.js';
import type { ClockAnswers } from '../../services/clock/clock-answers.js';
import { MuxStream } from '../../session/mux-stream.js';
import type { Session } from '../../session/session.js';
import type { Clock } from '../../util/clock.js';

const CLOCK_SERVICE = 'clock' satisfies typeof import('../../services/clock/clock-messages.js').CLOCK_SERVICE;

export class PeerClock {
  readonly #address: ChannelAddress;
  readonly #clock: Clock;
  #answers: Promise<ClockAnswers> | null = null;
  /** The sessions whose peers are told, each with what ends it. */
  readonly #told = new WeakMap<Session, AbortController>();

  constructor(address: ChannelAddress, clock: Clock) {
    this.#address = address;
    this.#clock = clock;
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
    this.#answers ??= this.#load();
    void this.#answers.then((answers) => answers.run(() => MuxStream.open(session, CLOCK_SERVICE), ending.signal));
  }

  /** The code is loaded only for a peer that needs it. */
  async #load(): Promise<ClockAnswers> {
    const { ClockAnswers } = await import('../../services/clock/clock-answers.js');
    const { kind, address, traits } = this.#address;
    const isPrivate = kind.mode === 'listen' ? kind.isPrivate(address) : (kind.strangers?.(address) ?? null) === null;
    return new ClockAnswers({ clock: this.#clock, isSecret: isPrivate || traits.tls !== null });
  }
}

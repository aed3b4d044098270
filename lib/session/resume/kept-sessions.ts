/** The sessions of one channel that can be taken up again: those that have a link, and those that wait for another (R-RESUME-1, R-RESUME-6). */
import { VproxyError } from '../../errors.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import type { Session } from '../session.js';
import type { ResumeSecret } from './secret.js';

/** A HELLO names so many: a channel has one session, and may have a stranger's beside it. */
const MAX_NAMED = 4;

/** What the sessions on all links of a channel share. */
export class KeptSessions {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  /** By id; the newest is the last. */
  readonly #sessions = new Map<string, Session>();
  /** When those that have no link end. */
  readonly #endAtMs = new WeakMap<Session, number>();
  #stopReason: VproxyError | null = null;

  /** A session without a link ends after `timeoutMs`. */
  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** The ids that a HELLO of a side with these keys names, the newest first: a session that was proved needs its key again. */
  named(keyIds: readonly string[]): string[] {
    const sessions = [...this.#sessions].filter(([, { keyId }]) =>
      keyId === null ? keyIds.length === 0 : keyIds.includes(keyId),
    );
    return sessions
      .map(([id]) => id)
      .reverse()
      .slice(0, MAX_NAMED);
  }

  /** The session of an id; null where it is over, or was never this side's. */
  find(id: string): Session | null {
    return this.#sessions.get(id) ?? null;
  }

  /** The sessions that have no link. */
  get suspended(): Session[] {
    return [...this.#sessions.values()].filter(({ isSuspended }) => isSuspended);
  }

  /** When a session ends that has no link, by the clock; null where it has one. */
  endAtMs(session: Session): number | null {
    return session.isSuspended ? (this.#endAtMs.get(session) ?? null) : null;
  }

  /** Whether a session that loses its link ends with it. */
  get isStopped(): boolean {
    return this.#stopReason !== null;
  }

  /** Keeps a session from now on, to its end. When it is ready it takes the place of those that have no link. */
  add(session: Session): void {
    session.once('ready', () => this.#endFor(session));
    this.#keep(session);
  }

  /**
   * Keeps a session that was restored, to its end, before it goes on. One that has no link waits until `endAtMs`, by default as
   * long as one that loses its link now.
   */
  adopt(session: Session, endAtMs: number | null = null): void {
    this.#keep(session, endAtMs);
  }

  #keep(session: Session, endAtMs: number | null = null): void {
    let cancel: CancelTimer | null = null;
    const goOn = (): void => {
      cancel?.();
      cancel = null;
    };
    const hold = ({ id }: ResumeSecret): void => {
      this.#sessions.set(id, session);
      session.once('end', () => {
        goOn();
        this.#sessions.delete(id);
      });
    };
    const waitUntil = (untilMs: number): void => {
      if (this.#stopReason !== null) {
        session.end(this.#stopReason);
        return;
      }
      this.#endAtMs.set(session, untilMs);
      const message = `no other link within ${this.#timeoutMs / 1000} s`;
      const end = (): void => session.end(new VproxyError('resume-expired', message));
      cancel = this.#clock.schedule(Math.max(0, untilMs - this.#clock.now()), end);
    };
    const wait = (): void => waitUntil(this.#clock.now() + this.#timeoutMs);
    session.on('suspended', wait).on('resumed', goOn);
    if (session.secret === null) session.once('resumable', hold);
    else hold(session.secret);
    if (!session.isSuspended) return;
    if (endAtMs === null) wait();
    else waitUntil(endAtMs);
  }

  /** Ends those that have no link, at once. The others end where they lose it from now on. */
  stop(reason: VproxyError): void {
    this.#stopReason = reason;
    for (const session of this.suspended) session.end(reason);
  }

  /** The peer began a session instead of going on with those that it had. */
  #endFor({ agreement: { peer } }: Session): void {
    for (const session of this.suspended) {
      const isSameProcess = session.agreement.peer.instance === peer.instance;
      session.end(
        isSameProcess
          ? new VproxyError('resume-refused', 'the peer came back without the session')
          : new VproxyError('peer-restarted', 'another process came back in place of the peer'),
      );
    }
  }
}

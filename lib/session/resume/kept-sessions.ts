/**
 * The sessions of one channel: on which link each is, and who hears what becomes of it. Those that can be taken up again are found
 * here by their id (R-RESUME-1, R-RESUME-6).
 */
import { VproxyError } from '../../errors.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import type { Session } from '../session.js';

/** A HELLO names so many: a channel has one session, and may have a stranger's beside it. */
const MAX_NAMED = 4;

/** The use of a link for a session, which is told what becomes of the session before all others are. */
export interface SessionHolder {
  handleEnded(session: Session, reason: VproxyError): void;
  /** The session has left the link; or, with a reason, the link is there, and nothing more of the session came on it. */
  handleSuspended(session: Session, reason: VproxyError | null): void;
  /** Nothing came for too long: the link should be given up. */
  handleSilent(reason: VproxyError): void;
}

/** Another link on which a session is to be taken up. */
export interface SessionClaim {
  handleEnded(reason: VproxyError): void;
  handleSuspended(): void;
  /** The session goes on with yet another link. */
  handleDisplaced(): void;
}

/** A session that is not over. */
interface Kept {
  /** Null while it has no link. */
  holder: SessionHolder | null;
  readonly claims: Set<SessionClaim>;
  /** When it ends because it has no link, by the clock; null while it has one. */
  endAtMs: number | null;
  cancel: CancelTimer | null;
}

/** What the sessions on all links of a channel share. It alone hears what becomes of them, and tells the others. */
export class KeptSessions {
  /** Is told of the end of a session that has no link. */
  onEnded: (session: Session, reason: VproxyError) => void = () => undefined;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  /** The newest is the last. */
  readonly #kept = new Map<Session, Kept>();
  #stopReason: VproxyError | null = null;

  /** A session without a link ends after `timeoutMs`. */
  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** The ids that a HELLO of a side with these keys names, the newest first: a session that was proved needs its key again. */
  named(keyIds: readonly string[]): string[] {
    const isNamed = ({ keyId }: Session): boolean => (keyId === null ? keyIds.length === 0 : keyIds.includes(keyId));
    return [...this.#kept.keys()]
      .filter(isNamed)
      .flatMap(({ secret }) => (secret === null ? [] : [secret.id]))
      .reverse()
      .slice(0, MAX_NAMED);
  }

  /** The session of an id; null where it is over, or was never this side's. */
  find(id: string): Session | null {
    return [...this.#kept.keys()].find(({ secret }) => secret?.id === id) ?? null;
  }

  get #suspended(): Session[] {
    return [...this.#kept.keys()].filter(({ isSuspended }) => isSuspended);
  }

  /** When a session ends that has no link, by the clock; null where it has one. */
  endAtMs(session: Session): number | null {
    return this.#kept.get(session)?.endAtMs ?? null;
  }

  /** Whether a session that loses its link ends with it. */
  get isStopped(): boolean {
    return this.#stopReason !== null;
  }

  /** A session has this link from now on: a new one, or one that goes on there. */
  hold(session: Session, holder: SessionHolder): void {
    const kept = this.#kept.get(session) ?? this.#add(session);
    kept.cancel?.();
    kept.endAtMs = null;
    kept.holder = holder;
  }

  /** Keeps a session that was restored without a link, before it goes on: until `endAtMs`, by default as long as one that loses its link now. */
  adopt(session: Session, endAtMs: number | null = null): void {
    this.#wait(session, this.#add(session), endAtMs ?? this.#clock.now() + this.#timeoutMs);
  }

  /** A session is about to be taken up on another link; gives what takes the claim back. */
  claim(session: Session, claim: SessionClaim): () => void {
    const claims = this.#kept.get(session)?.claims;
    claims?.add(claim);
    return () => void claims?.delete(claim);
  }

  /** A new session is established, which takes the place of those that have no link: the peer began it instead of going on with them. */
  displaceSuspended({ agreement: { peer } }: Session): void {
    for (const session of this.#suspended) {
      const isSameProcess = session.agreement.peer.instance === peer.instance;
      session.end(
        isSameProcess
          ? new VproxyError('resume-refused', 'the peer came back without the session')
          : new VproxyError('peer-restarted', 'another process came back in place of the peer'),
      );
    }
  }

  /** Ends those that have no link, at once. The others end where they lose it from now on. */
  stop(reason: VproxyError): void {
    this.#stopReason = reason;
    for (const session of this.#suspended) session.end(reason);
  }

  #add(session: Session): Kept {
    const kept: Kept = { holder: null, claims: new Set(), endAtMs: null, cancel: null };
    this.#kept.set(session, kept);
    session
      .once('end', (reason) => this.#end(session, kept, reason))
      .on('suspended', (reason) => this.#suspend(session, kept, reason))
      .on('silent', (reason) => kept.holder?.handleSilent(reason))
      .on('resumed', () => {
        for (const claim of kept.claims) claim.handleDisplaced();
      });
    return kept;
  }

  #end(session: Session, kept: Kept, reason: VproxyError): void {
    kept.cancel?.();
    this.#kept.delete(session);
    if (kept.holder === null) this.onEnded(session, reason);
    else kept.holder.handleEnded(session, reason);
    for (const claim of kept.claims) claim.handleEnded(reason);
  }

  #suspend(session: Session, kept: Kept, reason: VproxyError | null): void {
    if (this.#stopReason !== null) {
      session.end(this.#stopReason);
      return;
    }
    const { holder } = kept;
    kept.holder = null;
    this.#wait(session, kept, this.#clock.now() + this.#timeoutMs);
    holder?.handleSuspended(session, reason);
    for (const claim of kept.claims) claim.handleSuspended();
  }

  #wait(session: Session, kept: Kept, untilMs: number): void {
    kept.endAtMs = untilMs;
    const message = `no other link within ${this.#timeoutMs / 1000} s`;
    const end = (): void => session.end(new VproxyError('resume-expired', message));
    kept.cancel = this.#clock.schedule(Math.max(0, untilMs - this.#clock.now()), end);
  }
}

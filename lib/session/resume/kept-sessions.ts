/**
 * The sessions of one channel: the link of each, and who is informed about it. Resumable ones are found by id
 * (R-RESUME-1, R-RESUME-6).
 */
import { VproxyError } from '../../errors.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import type { Session } from '../session.js';

/** The most sessions named in a HELLO: a channel has one session, and perhaps a stranger's beside it. */
const MAX_NAMED = 4;

/** A link's use for a session; informed about the session before all other listeners. */
export interface SessionHolder {
  handleEnded(session: Session, reason: VproxyError): void;
  /** The session has left the link; with a reason, the link is still open but out of step with the session. */
  handleSuspended(session: Session, reason: VproxyError | null): void;
  /** Nothing came for too long: the link should be dropped. */
  handleSilent(reason: VproxyError): void;
}

/** Another link on which a session is being resumed. */
export interface SessionClaim {
  handleEnded(reason: VproxyError): void;
  handleSuspended(): void;
  /** The session resumed on yet another link. */
  handleDisplaced(): void;
}

/** A session that is not over. */
interface Kept {
  /** Null while it has no link. */
  holder: SessionHolder | null;
  readonly claims: Set<SessionClaim>;
  /** When a session without a link expires, by the clock; null while it has one. */
  endAtMs: number | null;
  cancel: CancelTimer | null;
}

/** Shared by the sessions on all links of a channel: the only listener of theirs, which informs the others. */
export class KeptSessions {
  /** Called when a session without a link ends. */
  onEnded: (session: Session, reason: VproxyError) => void = () => undefined;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  /** The newest is last. */
  readonly #kept = new Map<Session, Kept>();
  #stopReason: VproxyError | null = null;

  /** A session without a link expires after `timeoutMs`. */
  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** The ids to name in a HELLO of a side with these keys, newest first: an authenticated session needs its key again. */
  named(keyIds: readonly string[]): string[] {
    const isNamed = ({ keyId }: Session): boolean => (keyId === null ? keyIds.length === 0 : keyIds.includes(keyId));
    return [...this.#kept.keys()]
      .filter(isNamed)
      .flatMap(({ secret }) => (secret === null ? [] : [secret.id]))
      .reverse()
      .slice(0, MAX_NAMED);
  }

  /** A session by id; null if it is over, or was never this side's. */
  find(id: string): Session | null {
    return [...this.#kept.keys()].find(({ secret }) => secret?.id === id) ?? null;
  }

  get #suspended(): Session[] {
    return [...this.#kept.keys()].filter(({ isSuspended }) => isSuspended);
  }

  /** When a session without a link expires, by the clock; null if it has one. */
  endAtMs(session: Session): number | null {
    return this.#kept.get(session)?.endAtMs ?? null;
  }

  /** Whether a session that loses its link ends with it. */
  get isStopped(): boolean {
    return this.#stopReason !== null;
  }

  /** Gives a session this link: a new one, or one that continues there. */
  attach(session: Session, holder: SessionHolder): void {
    const kept = this.#kept.get(session) ?? this.#add(session);
    kept.cancel?.();
    kept.endAtMs = null;
    kept.holder = holder;
  }

  /** Keeps a session that was restored without a link, before it continues: until `endAtMs`, by default for the full timeout. */
  adopt(session: Session, endAtMs: number | null = null): void {
    this.#wait(session, this.#add(session), endAtMs ?? this.#clock.now() + this.#timeoutMs);
  }

  /** A session is about to be resumed on another link. Returns a function that withdraws the claim. */
  claim(session: Session, claim: SessionClaim): () => void {
    const claims = this.#kept.get(session)?.claims;
    claims?.add(claim);
    return () => void claims?.delete(claim);
  }

  /** A new session is established and replaces those without a link: the peer began it instead of resuming them. */
  displaceSuspended({ agreement: { peer } }: Session): void {
    for (const session of this.#suspended) {
      const isSameProcess = session.agreement.peer.instance === peer.instance;
      session.end(
        isSameProcess
          ? new VproxyError('resume-refused', 'the peer reconnected without the session')
          : new VproxyError('peer-restarted', 'the peer restarted'),
      );
    }
  }

  /** Ends the sessions without a link at once, and from now on the others when they lose theirs. */
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
    const message = `no new link within ${this.#timeoutMs / 1000} s`;
    const end = (): void => session.end(new VproxyError('resume-expired', message));
    kept.cancel = this.#clock.schedule(Math.max(0, untilMs - this.#clock.now()), end);
  }
}

/** Where forwards find the session of the moment. */
import { VproxyError } from '../errors.js';
import type { Session } from '../session/session.js';
import type { Clock } from '../util/clock.js';

type Waiter = (session: Session) => void;

/** Holds the established session of a channel, and those who wait for one. */
export class SessionSource {
  readonly #clock: Clock;
  readonly #waiters = new Set<Waiter>();
  #session: Session | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The session that streams can be opened in, or null. */
  get session(): Session | null {
    return this.#session !== null && !this.#session.isOver && !this.#session.isDraining ? this.#session : null;
  }

  /** A session was established; who waits gets it. */
  provide(session: Session): void {
    this.#session = session;
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const waiter of waiters) waiter(session);
  }

  /** The session ended. */
  withdraw(session: Session): void {
    if (this.#session === session) this.#session = null;
  }

  /** The session, as soon as there is one. Rejects with `no-session` after `timeoutMs`, or when aborted. */
  wait(timeoutMs: number, signal: AbortSignal): Promise<Session> {
    if (this.session !== null) return Promise.resolve(this.session);
    return new Promise((resolve, reject) => {
      const giveUp = (message: string): void => {
        finish();
        reject(new VproxyError('no-session', message));
      };
      const onAbort = (): void => giveUp('this side is ending');
      const waiter = (session: Session): void => {
        finish();
        resolve(session);
      };
      const cancel = this.#clock.schedule(timeoutMs, () =>
        giveUp(`no session with the peer within ${timeoutMs / 1000} s`),
      );
      const finish = (): void => {
        cancel();
        this.#waiters.delete(waiter);
        signal.removeEventListener('abort', onAbort);
      };
      this.#waiters.add(waiter);
      signal.addEventListener('abort', onAbort);
      if (signal.aborted) onAbort();
    });
  }
}

/** Gives forwards the current session of a channel. */
import { setMaxListeners } from 'node:events';
import { VproxyError } from '../errors.js';
import type { Session } from '../session/session.js';
import type { Clock } from '../util/clock.js';
import { deferred, onAbort } from '../util/concurrency.js';

/** Default time that a local connection waits for a session, in milliseconds. */
export const DEFAULT_WAIT_MS = 10_000;

type Waiter = (session: Session) => void;

/** Limit on waiters: each holds a connection, and all are opened at the same moment. */
const MAX_WAITERS = 1024;

/** Holds the established session of a channel, and the callers that wait for one. */
export class SessionSource {
  readonly #clock: Clock;
  readonly #waiters = new Set<Waiter>();
  #session: Session | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The session if streams can be opened in it, else null. */
  get session(): Session | null {
    return this.#session?.canOpen === true ? this.#session : null;
  }

  /** The session, even if it drains or has no link; null if there is none. */
  get current(): Session | null {
    return this.#session !== null && !this.#session.isOver ? this.#session : null;
  }

  /** Makes this the current session; waiters keep waiting until `provide`. */
  setCurrent(session: Session): void {
    this.#session = session;
  }

  /** A session was established or continues: hands it to all waiters. */
  provide(session: Session): void {
    if (session.isOver) return;
    this.#session = session;
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const waiter of waiters) waiter(session);
  }

  /** The session ended. */
  withdraw(session: Session): void {
    if (this.#session === session) this.#session = null;
  }

  /**
   * Resolves with the session once there is one. Rejects with `no-session` after `timeoutMs`, when `signal` is aborted, or if
   * 1,024 wait; with `cancelled` when `gone` is aborted: the caller has disconnected.
   */
  async wait(timeoutMs: number, signal: AbortSignal, gone?: AbortSignal): Promise<Session> {
    if (this.session !== null) return this.session;
    if (this.#waiters.size >= MAX_WAITERS) {
      const message = `no session with the peer; ${MAX_WAITERS} connections are already waiting for one`;
      throw new VproxyError('no-session', message);
    }
    const found = deferred<Session>();
    const giveUp = (message: string): void => found.reject(new VproxyError('no-session', message));
    const cancel = this.#clock.schedule(timeoutMs, () =>
      giveUp(`no session with the peer within ${timeoutMs / 1000} s`),
    );
    const waiter: Waiter = (session) => found.resolve(session);
    this.#waiters.add(waiter);
    // Not a leak: keep Node from warning about it on stderr.
    setMaxListeners(MAX_WAITERS, signal);
    const forget = [
      onAbort(signal, () => giveUp('shutting down')),
      onAbort(gone, () => found.reject(new VproxyError('cancelled', 'the caller has disconnected'))),
    ];
    try {
      return await found.promise;
    } finally {
      cancel();
      this.#waiters.delete(waiter);
      for (const each of forget) each();
    }
  }
}

/** Where forwards find the session of the moment. */
import { setMaxListeners } from 'node:events';
import { VproxyError } from '../errors.js';
import type { Session } from '../session/session.js';
import type { Clock } from '../util/clock.js';
import { deferred } from '../util/concurrency.js';
import type { KnownStream } from './connection.js';

type Waiter = (session: Session) => void;

/** This number may wait at once: each holds a connection, and all are opened at the same moment. */
const MAX_WAITERS = 1024;

/** Holds the established session of a channel, and those that wait for one. */
export class SessionSource {
  readonly #clock: Clock;
  readonly #waiters = new Set<Waiter>();
  #session: Session | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The session that streams can be opened in, or null. */
  get session(): Session | null {
    return this.#session?.canOpen === true ? this.#session : null;
  }

  /** The session, also one that drains or has no link; or null. */
  get current(): Session | null {
    return this.#session !== null && !this.#session.isOver ? this.#session : null;
  }

  /** From now on this is the session; those that wait do until it is provided. */
  hold(session: Session): void {
    this.#session = session;
  }

  /** A session was established, or continues; those that wait get it. */
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

  /** The session, as soon as there is one. Rejects with `no-session` after `timeoutMs`, when aborted, or when 1,024 wait. */
  async wait(timeoutMs: number, signal: AbortSignal): Promise<Session> {
    if (this.session !== null) return this.session;
    if (this.#waiters.size >= MAX_WAITERS) {
      const message = `no session with the peer; ${MAX_WAITERS} connections are already waiting for one`;
      throw new VproxyError('no-session', message);
    }
    const found = deferred<Session>();
    const giveUp = (message: string): void => found.reject(new VproxyError('no-session', message));
    const onAbort = (): void => giveUp('shutting down');
    const cancel = this.#clock.schedule(timeoutMs, () =>
      giveUp(`no session with the peer within ${timeoutMs / 1000} s`),
    );
    const waiter: Waiter = (session) => found.resolve(session);
    this.#waiters.add(waiter);
    // This number of listeners is no leak, of which Node would warn on stderr.
    setMaxListeners(MAX_WAITERS, signal);
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    try {
      return await found.promise;
    } finally {
      cancel();
      this.#waiters.delete(waiter);
      signal.removeEventListener('abort', onAbort);
    }
  }
}

/*
 * The fields of a stream's events. Each is written out, with at most one other object's behind it: an object that begins
 * as a copy and gets more is fifty times as slow to make, and there are two for each stream.
 */

/** How a stream ended: with the code of an error, or, without one, in order. */
export interface StreamEnding {
  readonly code?: string | null;
}

/** Where there is none. */
export const NO_STREAM = { stream: null } as const;

/** The stream's number, and where it came from. */
export const streamFields = ({ id, from }: KnownStream) => ({ stream: id, from });

/** The same with what went through it, for how long it was there at `nowMs`, and its code or null. */
export function endedStreamFields(nowMs: number, stream: KnownStream, { code = null }: StreamEnding) {
  const { id, from, sentBytes, receivedBytes, openedAtMs } = stream;
  return { stream: id, from, sentBytes, receivedBytes, durationMs: Math.round(nowMs - openedAtMs), code };
}

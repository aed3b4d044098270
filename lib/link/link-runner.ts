/** Runs the sessions of one link, from its start to its end. A channel has turns: work that exceeds one is left to the next. */

import type { VproxyError } from '../errors.js';
import type { Session, SessionState } from '../session/session.js';
import { SessionLoop } from '../session/session-loop.js';
import { type SessionSettings } from '../session/settings.js';
import type { KeepDescriptor } from '../system/descriptors.js';
import type { Clock } from '../util/clock.js';
import { deferred } from '../util/concurrency.js';
import { GatheredWrites } from './gathered-writes.js';
import type { Link, LinkState } from './link.js';

const NOTHING = Buffer.alloc(0);

/** As much as a link reads from a socket at once. */
const ROOM_BYTES = 135_168;

/** For whichever link needs it next: rarely more than one at a time. */
let spareRoom: Buffer | null = null;

/** The state of a {@link LinkRunner} with an established session, whose own state is kept elsewhere. */
export interface RunnerState {
  readonly link: LinkState;
  /** Since when the session has had the link, by the clock. */
  readonly joinedAtMs: number;
  /** Received bytes that were left to another turn. */
  readonly unread: Buffer;
}

/** A link and its session loop. */
export class LinkRunner {
  readonly link: Link;
  readonly loop: SessionLoop;
  readonly #writes: GatheredWrites;
  readonly #closed = deferred<VproxyError>();
  /** Resolves with the reason when the link has closed. */
  readonly closed = this.#closed.promise;
  /** Whether a session that was established has ended on the link. */
  #wasUsed = false;
  /** Why this side abandoned the link; null if it did not. */
  #abandoned: VproxyError | null = null;
  /** Received bytes left to another turn, while the link is paused; empty if the loop has all of them. Null: none left. */
  #unread: Buffer | null = null;
  /** The memory that holds them; null once a stream has kept a view of it. */
  #room: Buffer | null = null;

  /** Does nothing before `start`, so that listeners can be attached to the loop. */
  constructor(link: Link, clock: Clock, settings: SessionSettings) {
    this.link = link;
    this.#writes = new GatheredWrites(link, () => this.loop.handleDrain());
    this.loop = new SessionLoop(this.#writes, clock, settings, (unread) => this.#leaveToNextTurn(unread));
    this.loop.on('ended', ({ wasEstablished }) => {
      this.#wasUsed ||= wasEstablished;
    });
  }

  start(): void {
    this.#startLink();
    this.loop.start();
  }

  /** The state for a successor of this process; null if the link cannot be handed over or has no established session. */
  capture(keep: KeepDescriptor): RunnerState | null {
    const { joinedAtMs } = this.loop;
    if (joinedAtMs === null) return null;
    // Gathered bytes would have left with this turn.
    this.#writes.flush();
    const link = this.link.capture?.(keep) ?? null;
    return link === null ? null : { joinedAtMs, link, unread: this.#unread ?? NOTHING };
  }

  /** Instead of `start`, before `goOn`: restores the session that a predecessor of this process had on the link. */
  restore(session: SessionState, { joinedAtMs, unread }: RunnerState): Session {
    if (unread.length > 0) this.#keepUnread(unread);
    return this.loop.restore(session, joinedAtMs);
  }

  /** Call after `restore`: starts reading and writing. */
  goOn(): void {
    this.#startLink();
    this.loop.goOn(this.#unread !== null);
    if (this.#unread === null) return;
    this.link.pause();
    this.#goOnLater();
  }

  #startLink(): void {
    const { loop } = this;
    this.link.start({
      onBytes: loop.onBytes.bind(loop),
      hasInteractive: loop.hasInteractive.bind(loop),
      onDrain: () => {
        // The loop first: it takes along what was gathered.
        loop.handleDrain();
        this.#writes.endTurn();
      },
      onClosed: (closed) => {
        const reason = this.#abandoned ?? closed;
        // They may hold the peer's last words: why it ends.
        while (this.#unread !== null) this.#goOn();
        loop.handleClosed(reason);
        this.#closed.resolve(reason);
      },
    });
  }

  /** Keeps `bytes` for the next turn, behind what already waits: even a paused link may deliver more. */
  #leaveToNextTurn(bytes: Buffer): void {
    const unread = this.#unread;
    this.#keepUnread(unread === null ? bytes : Buffer.concat([unread, bytes]));
    if (unread !== null) return;
    this.link.pause();
    this.#goOnLater();
  }

  /** Continues in the next turn of the event loop, after the other sockets have had theirs. */
  #goOnLater(): void {
    setImmediate(() => {
      this.#goOn();
      if (this.#unread !== null) this.#goOnLater();
      else this.link.resume();
    });
  }

  #goOn(): void {
    if (this.#unread !== null && this.loop.receive(this.#unread)) this.#room = null;
    this.#unread = this.loop.takeUnread();
    if (this.#unread !== null) return;
    spareRoom ??= this.#room;
    this.#room = null;
  }

  /** Copies, because keeping a view would give the link's memory away: a flood of small frames would use up much of it. */
  #keepUnread(unread: Buffer): void {
    const isLargeEnough = spareRoom !== null && spareRoom.length >= unread.length;
    const room =
      isLargeEnough && spareRoom !== null ? spareRoom : Buffer.allocUnsafeSlow(Math.max(unread.length, ROOM_BYTES));
    if (isLargeEnough) spareRoom = null;
    unread.copy(room);
    this.#room = room;
    this.#unread = room.subarray(0, unread.length);
  }

  /** Abandons the link for `reason` and drops what waits. A resumable session continues on another link. */
  abandon(reason: VproxyError): void {
    this.#abandoned = reason;
    this.link.destroy();
  }

  /**
   * Ends the session, telling the peer `reason` if its code may go on the wire; then closes the link, as `Link.close`: without
   * `closeMs` if no session was established on it.
   */
  stop(reason: VproxyError, closeMs?: number): Promise<VproxyError> {
    this.loop.stop(reason);
    this.loop.afterFlush(() => {
      this.#writes.flush();
      this.link.close(this.#wasUsed ? closeMs : undefined);
    });
    return this.closed;
  }
}

/** Runs sessions on one link, from its start to its end. A channel has turns: what costs too much is left to a later one. */

import type { VproxyError } from '../errors.js';
import type { Session, SessionState } from '../session/session.js';
import { type LoopCapture, SessionLoop } from '../session/session-loop.js';
import { type SessionSettings } from '../session/settings.js';
import type { KeepDescriptor } from '../system/descriptors.js';
import type { Clock } from '../util/clock.js';
import { deferred } from '../util/concurrency.js';
import { GatheredWrites } from './gathered-writes.js';
import type { Link, LinkState } from './link.js';

const NOTHING = Buffer.alloc(0);

/** As much as a link reads at once from a socket. */
const ROOM_BYTES = 135_168;

/** For whichever link needs it next: it is seldom more than one at a time. */
let spareRoom: Buffer | null = null;

/** What lives on of a {@link LinkRunner} with an established session, which has a record of its own. */
export interface RunnerState {
  readonly link: LinkState;
  readonly loop: LoopCapture;
  /** What came and is left to another turn. */
  readonly unread: Buffer;
}

/** A link and its session loop. */
export class LinkRunner {
  readonly link: Link;
  readonly loop: SessionLoop;
  readonly #writes: GatheredWrites;
  readonly #closed = deferred<VproxyError>();
  /** Resolved when the link is gone, with the reason. */
  readonly closed = this.#closed.promise;
  /** Why this side gave it up; null where it did not. */
  #abandoned: VproxyError | null = null;
  /** What came and is left to another turn, while the link is paused; empty where the loop has all of it. Null: nothing is left. */
  #unread: Buffer | null = null;
  /** Where that lies; null once a stream has kept a view of it. */
  #room: Buffer | null = null;

  /** Nothing happens before `start`, so that the loop can be listened to. */
  constructor(link: Link, clock: Clock, settings: SessionSettings) {
    this.link = link;
    this.#writes = new GatheredWrites(link, () => this.loop.handleDrain());
    this.loop = new SessionLoop(this.#writes, clock, settings, (unread) => this.#leaveToNextTurn(unread));
  }

  start(): void {
    this.#startLink();
    this.loop.start();
  }

  /** What a successor of this process goes on with; null where the link cannot be handed over, or has no established session. */
  capture(keep: KeepDescriptor): RunnerState | null {
    const loop = this.loop.capture();
    // What was gathered would have left with this turn.
    if (loop !== null) this.#writes.flush();
    const link = loop === null ? null : (this.link.capture?.(keep) ?? null);
    return loop === null || link === null ? null : { loop, link, unread: this.#unread ?? NOTHING };
  }

  /** In the place of `start`, up to `goOn`: takes up the session that a predecessor of this process had on the link. */
  restore(session: SessionState, { loop, unread }: RunnerState): Session {
    if (unread.length > 0) this.#keepUnread(unread);
    return this.loop.restore(session, loop);
  }

  /** Behind `restore`: reads and writes. */
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
        // First what takes along what was gathered.
        loop.handleDrain();
        this.#writes.endTurn();
      },
      onClosed: (closed) => {
        const reason = this.#abandoned ?? closed;
        // The peer's last words may be among them: why it ends.
        while (this.#unread !== null) this.#goOn();
        loop.handleClosed(reason);
        this.#closed.resolve(reason);
      },
    });
  }

  /** What came has to wait, and what comes from a paused link all the same: the order stays. */
  #leaveToNextTurn(bytes: Buffer): void {
    const unread = this.#unread;
    this.#keepUnread(unread === null ? bytes : Buffer.concat([unread, bytes]));
    if (unread !== null) return;
    this.link.pause();
    this.#goOnLater();
  }

  /** In the next turn of the event loop, when the other sockets have had theirs. */
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

  /** Copies it, because the link's own memory would be given away with it: a flood of small frames would use up much of that. */
  #keepUnread(unread: Buffer): void {
    const isLargeEnough = spareRoom !== null && spareRoom.length >= unread.length;
    const room =
      isLargeEnough && spareRoom !== null ? spareRoom : Buffer.allocUnsafeSlow(Math.max(unread.length, ROOM_BYTES));
    if (isLargeEnough) spareRoom = null;
    unread.copy(room);
    this.#room = room;
    this.#unread = room.subarray(0, unread.length);
  }

  /** Gives the link up, for this reason: what waits goes nowhere any more. A session that can goes on with another link. */
  abandon(reason: VproxyError): void {
    this.#abandoned = reason;
    this.link.destroy();
  }

  /** Ends the session with `reason`, which the peer is told where the code is one for it; then the link. */
  stop(reason: VproxyError): Promise<VproxyError> {
    this.loop.stop(reason);
    this.loop.afterFlush(() => {
      this.#writes.flush();
      this.link.close();
    });
    return this.closed;
  }
}

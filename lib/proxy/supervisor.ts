/** What dialled and listening channels have in common: their runners, their sessions, and what the log says of them. */

import { EventEmitter } from 'eventemitter3';
import type { ChannelAddress } from '../channel/address/address.js';
import type { ChannelListener, ChannelTraits, DialKind, ListenKind } from '../channel/kind.js';
import { toVproxyError, VproxyError } from '../errors.js';
import { type Log, type LogEvent, makeEvent } from '../events.js';
import type { Link } from '../link/link.js';
import type { Agreement } from '../session/agreement.js';
import type { Session } from '../session/session.js';
import { SessionLoop, SHORT_SESSION_MS } from '../session/session-loop.js';
import type { SessionSettings } from '../session/settings.js';
import type { ChannelState } from '../status/types.js';
import { Backoff, type Clock, pause } from '../util/clock.js';
import { deferred } from '../util/concurrency.js';
import { escapeText } from '../util/escape.js';

interface ChannelEvents {
  log: [event: LogEvent];
  /** What the channel does now, what it waits for or why it failed, and how long until it tries again by itself. */
  state: [state: ChannelState, detail: string | null, nextTryMs: number | null];
  /** A session is established: its `start` has to be called. */
  session: [session: Session];
  ended: [session: Session, reason: VproxyError];
  /** The channel can never work, or not any more. */
  fatal: [reason: VproxyError];
}

interface SupervisorOptions {
  readonly channel: ChannelAddress;
  readonly settings: SessionSettings;
  readonly clock: Clock;
}

/** Back-off between attempts to open a channel. */
const RETRY = { firstMs: 100, maxMs: 5000 } as const;

/** Keeps a channel open. Made for a kind by `superviseChannel`. */
export abstract class ChannelSupervisor extends EventEmitter<ChannelEvents> {
  protected readonly options: SupervisorOptions;
  /** The last line about what the channel does, so that only changes are logged. */
  #logged = '';
  /** The last line about a peer that was not let in, or that lets nobody in. */
  #loggedRefusal = '';
  readonly #runners = new Set<LinkRunner>();
  #skippedBytes = 0;
  /** The newest session; another link may still have an older one, or wait for one. */
  #session: Session | null = null;

  constructor(options: SupervisorOptions) {
    super();
    this.options = options;
  }

  /** Bytes that belonged to no session, on all links. */
  get skippedBytes(): number {
    return [...this.#runners].reduce((sum, { loop }) => sum + loop.skippedBytes, this.#skippedBytes);
  }

  /** Begins to open the channel. Rejects where this side should listen and cannot. */
  abstract start(): Promise<void>;

  /** As `start`, but where this side should listen and cannot, it tries again and again. */
  abstract startPatiently(): void;

  /** Ends sessions and links; `reason` is what the peers are told. */
  abstract stop(reason: VproxyError): Promise<void>;

  /** Makes the next attempt now, where one is waited for. */
  abstract retryNow(): void;

  /** A runner on a link whose sessions are told of. */
  protected run(link: Link): LinkRunner {
    const runner = new LinkRunner(link, this.options.clock, this.options.settings);
    this.#runners.add(runner);
    void runner.closed.then(() => {
      this.#runners.delete(runner);
      this.#skippedBytes += runner.loop.skippedBytes;
    });
    const { description } = link;
    runner.loop.on('session', (session) => {
      this.#logged = '';
      this.#loggedRefusal = '';
      const { agent, name } = session.agreement.peer;
      const who = [name === null ? '' : `${escapeText(name, 80)}, `, escapeText(agent, 80)].join('');
      const message = `session with ${who} on ${description}`;
      this.log(makeEvent('session-established', message, { link: description, agent, name }));
      this.#session = session;
      this.emit('state', 'established', null, null);
      session.once('draining', ({ message }) => {
        if (this.#session === session) this.emit('state', 'draining', message, null);
      });
      this.emit('session', session);
    });
    runner.loop.on('ended', (session, reason) => {
      if (this.#session === session) this.#session = null;
      const isRefused = reason.code === 'auth-failed';
      const advice = isRefused ? adviceFor(session.agreement, this.options.channel.traits) : null;
      const why = escapeText(reason.message, 512);
      const what = advice === null ? why : `${why}; ${advice}`;
      if (isRefused) this.setState('auth-failed', what);
      else this.setState('opening');
      const message = `session on ${description} ended: ${what} (${reason.code})`;
      const level = !isRefused ? 'info' : message === this.#loggedRefusal ? 'debug' : 'warn';
      if (isRefused) this.#loggedRefusal = message;
      const fields = { link: description, code: reason.code, ageMs: Math.round(session.ageMs) };
      this.log(makeEvent('session-ended', message, fields, level));
      this.emit('ended', session, reason);
    });
    runner.loop.on('quiet', (skippedBytes) => {
      const message = `no answer on ${description}: no vproxy at the other end yet, or another process has the channel`;
      this.tellWaiting(makeEvent('channel-waiting', message, { link: description, skippedBytes }));
    });
    runner.loop.on('echo', () => {
      const message = `${description} echoes what this side sends: is the line raw, is a vproxy at the other end?`;
      this.tellWaiting(makeEvent('channel-echo', message, { link: description }));
    });
    return runner;
  }

  /** The channel waits: with `nextTryMs` for its next attempt, else for somebody. Logs it, unless that was the last line. */
  protected tellWaiting(event: LogEvent, nextTryMs: number | null = null): void {
    this.setState(nextTryMs === null ? 'waiting' : 'backing-off', event.message, nextTryMs);
    this.logOnce(event);
  }

  /** Logs a line about what the channel does, unless it was the last one. */
  protected logOnce(event: LogEvent): void {
    const key = `${event.event} ${event.message}`;
    if (key === this.#logged) return;
    this.#logged = key;
    this.log(event);
  }

  /** Tells a state of a channel without a session; with one it is that session that says how the channel is. */
  protected setState(state: ChannelState, detail: string | null = null, nextTryMs: number | null = null): void {
    if (this.#session === null) this.emit('state', state, detail, nextTryMs);
  }

  protected readonly log: Log = (event) => this.emit('log', event);
}

// Keeps a channel open that this side opens: again and again, for ever.

export class DialSupervisor extends ChannelSupervisor {
  readonly #kind: DialKind<unknown>;
  /** Between openings that led to no session. */
  readonly #backoff = new Backoff(RETRY);
  /** Behind links whose last session was short: a peer that lets each of them be established and then drops it costs little. */
  readonly #shortSessions = new Backoff(RETRY);
  readonly #stopping = new AbortController();
  #wasSessionShort = false;
  #runner: LinkRunner | null = null;
  #pausing = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(kind: DialKind<unknown>, options: SupervisorOptions) {
    super(options);
    this.#kind = kind;
  }

  override start(): Promise<void> {
    this.#running = this.#keepOpen();
    return Promise.resolve();
  }

  override startPatiently(): void {
    void this.start();
  }

  override async stop(reason: VproxyError): Promise<void> {
    this.#stopping.abort();
    this.#pausing.abort();
    await this.#runner?.stop(reason);
    await this.#running;
  }

  override retryNow(): void {
    this.#backoff.reset();
    this.#shortSessions.reset();
    this.#pausing.abort();
  }

  async #keepOpen(): Promise<void> {
    const { signal } = this.#stopping;
    for (;;) {
      const reason = await this.#openOnce();
      if (signal.aborted) return;
      if (!reason.row.retry) {
        this.setState('failed', reason.message);
        this.emit('fatal', reason);
        return;
      }
      const pauseMs = (this.#wasSessionShort ? this.#shortSessions : this.#backoff).next();
      const fields = { code: reason.code };
      this.tellWaiting(makeEvent('channel-waiting', `${reason.message}; trying again`, fields), pauseMs);
      this.#pausing = new AbortController();
      await pause(this.options.clock, pauseMs, this.#pausing.signal);
    }
  }

  /** Opens the channel and runs sessions on it until it is gone; why it is, or why it could not be opened. */
  async #openOnce(): Promise<VproxyError> {
    const { channel } = this.options;
    const { signal } = this.#stopping;
    this.#wasSessionShort = false;
    this.setState('opening');
    try {
      const waiting = (what: string) =>
        this.tellWaiting(makeEvent('channel-waiting', `${channel.text}: waiting for ${what}`, {}));
      const link = await this.#kind.dial(channel.address, { signal, report: { waiting } });
      const runner = this.run(link);
      runner.loop.on('session', () => this.#backoff.reset());
      runner.loop.on('ended', ({ ageMs }) => {
        this.#wasSessionShort = ageMs < SHORT_SESSION_MS;
        if (!this.#wasSessionShort) this.#shortSessions.reset();
      });
      this.#runner = runner;
      runner.start();
      if (signal.aborted) return await runner.stop(new VproxyError('shutdown', 'this side is ending'));
      return await runner.closed;
    } catch (error) {
      return toVproxyError(error, 'channel-failed');
    } finally {
      this.#runner = null;
    }
  }
}

// Keeps a channel open on which peers connect; the newest established one is the peer (R-CHANNEL-2).

const describe = (runner: LinkRunner) => ({
  runner,
  origin: runner.link.origin ?? null,
  isAnswered: runner.loop.isAnswered,
});

/** So many connections may wait unestablished; one more closes one of them. */
const MAX_WAITING = 16;

export class ListenSupervisor extends ChannelSupervisor {
  readonly #kind: ListenKind<unknown>;
  readonly #backoff = new Backoff(RETRY);
  readonly #runners = new Set<LinkRunner>();
  #listener: ChannelListener | null = null;
  #established: LinkRunner | null = null;
  #cancelRetry: (() => void) | null = null;
  #isStopped = false;

  constructor(kind: ListenKind<unknown>, options: SupervisorOptions) {
    super(options);
    this.#kind = kind;
  }

  override async start(): Promise<void> {
    const listener = await this.#kind.listen(this.options.channel.address, {
      onLink: (link) => this.#accept(link),
      onFailed: (error) => this.#listenLater(error),
    });
    if (this.#isStopped) {
      await listener.close();
      return;
    }
    this.#listener = listener;
    this.#tellListening(listener);
  }

  override startPatiently(): void {
    this.#retry();
  }

  override async stop(reason: VproxyError): Promise<void> {
    this.#isStopped = true;
    this.#cancelRetry?.();
    await this.#listener?.close();
    await Promise.all([...this.#runners].map((runner) => runner.stop(reason)));
  }

  override retryNow(): void {
    this.#backoff.reset();
    if (this.#cancelRetry !== null) this.#retry();
  }

  #accept(link: Link): void {
    if (this.#isStopped) {
      link.destroy();
      return;
    }
    const waiting = [...this.#runners].filter((runner) => runner !== this.#established);
    if (waiting.length >= MAX_WAITING) {
      const { text } = this.options.channel;
      const message = `more than ${MAX_WAITING} connections wait on ${text}: for each new one another is closed`;
      this.logOnce(makeEvent('channel-crowded', message, {}));
      const chosen = chooseCrowded(waiting.map(describe), link.origin ?? null);
      // It makes room at once, though its end is told later.
      this.#runners.delete(chosen.runner);
      chosen.runner.link.destroy();
    }
    const runner = this.run(link);
    this.#runners.add(runner);
    runner.loop.on('session', () => this.#displace(runner));
    void runner.closed.then((reason) => {
      this.#runners.delete(runner);
      if (this.#established === runner) this.#established = null;
      const fields = { link: link.description, code: reason.code };
      this.log(makeEvent('channel-closed', reason.message, fields));
      if (this.#runners.size === 0 && this.#listener !== null) this.#tellListening(this.#listener);
    });
    this.setState('opening');
    runner.start();
  }

  /** A connection that is established takes the place of the one before. */
  #displace(runner: LinkRunner): void {
    const previous = this.#established;
    this.#established = runner;
    this.#backoff.reset();
    if (previous === null || previous === runner) return;
    const message = `${previous.link.description} was displaced by a newer connection`;
    void previous.stop(new VproxyError('channel-displaced', message));
  }

  #tellListening({ description }: ChannelListener): void {
    if (this.#isStopped) return;
    this.tellWaiting(makeEvent('channel-listening', `waiting for the peer on ${description}`, {}));
  }

  #listenLater(error: VproxyError): void {
    this.#listener = null;
    if (this.#isStopped) return;
    const pauseMs = this.#backoff.next();
    const fields = { code: error.code };
    this.tellWaiting(makeEvent('channel-waiting', `${error.message}; trying again`, fields), pauseMs);
    this.#cancelRetry = this.options.clock.schedule(pauseMs, () => this.#retry());
  }

  #retry(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = null;
    this.start().catch((error: unknown) => this.#listenLater(toVproxyError(error)));
  }
}

// Which of the connections that wait unestablished on a listening channel makes room for a newcomer (R-CHANNEL-2).

/** What is known of a connection before anybody has proved anything on it. */
export interface WaitingConnection {
  /** The machine that it comes from; null where the channel does not tell. */
  readonly origin: string | null;
  /** Whether its other end has answered this side's HELLO, and not failed since. */
  readonly isAnswered: boolean;
}

/**
 * One of `waiting`, which is not empty: of the machine that has most of them, the newcomer's own counted; there one that
 * has answered nothing before one that has; and of these any, by chance, so that whoever opens connections in a loop
 * cannot reckon with it. `random` gives numbers from 0 to below 1.
 */
export function chooseCrowded<T extends WaitingConnection>(
  waiting: readonly T[],
  newcomerOrigin: string | null,
  random: () => number = Math.random,
): T {
  const counts = new Map<string | null, number>();
  for (const origin of [newcomerOrigin, ...waiting.map((each) => each.origin)]) {
    counts.set(origin, (counts.get(origin) ?? 0) + 1);
  }
  const countOf = ({ origin }: T): number => counts.get(origin) ?? 0;
  const most = Math.max(...waiting.map(countOf));
  const crowd = waiting.filter((each) => countOf(each) === most);
  const silent = crowd.filter(({ isAnswered }) => !isAnswered);
  const candidates = silent.length > 0 ? silent : crowd;
  return candidates[Math.floor(random() * candidates.length)] as T;
}

// Runs sessions on one link, from its start to its end.

const NOTHING = Buffer.alloc(0);

/** As much as a link reads at once from a socket. */
const ROOM_BYTES = 135_168;

/** For whichever link needs it next: it is seldom more than one at a time. */
let spareRoom: Buffer | null = null;

/** A link and its session loop. */
export class LinkRunner {
  readonly link: Link;
  readonly loop: SessionLoop;
  readonly #closed = deferred<VproxyError>();
  /** What came and is left to another turn; the link is paused meanwhile. */
  #unread: Buffer = NOTHING;
  /** Where that lies; null once a stream has kept a view of it. */
  #room: Buffer | null = null;

  /** Nothing happens before `start`, so that the loop can be listened to. */
  constructor(link: Link, clock: Clock, settings: SessionSettings) {
    this.link = link;
    this.loop = new SessionLoop(link, clock, settings);
  }

  /** Resolved when the link is gone, with the reason. */
  get closed(): Promise<VproxyError> {
    return this.#closed.promise;
  }

  start(): void {
    this.link.start({
      onBytes: (bytes) => {
        const isKept = this.loop.receive(bytes);
        const unread = this.loop.takeUnread();
        if (unread.length > 0) {
          this.#keepUnread(unread);
          this.link.pause();
          this.#goOnLater();
        }
        return isKept;
      },
      onDrain: () => this.loop.handleDrain(),
      onClosed: (reason) => {
        // The peer's last words may be among them: why it ends.
        while (this.#unread.length > 0) this.#goOn();
        this.loop.handleClosed(reason);
        this.#closed.resolve(reason);
      },
    });
    this.loop.start();
  }

  /** In the next turn of the event loop, when the other sockets have had theirs. */
  #goOnLater(): void {
    setImmediate(() => {
      this.#goOn();
      if (this.#unread.length > 0) this.#goOnLater();
      else this.link.resume();
    });
  }

  #goOn(): void {
    if (this.#unread.length > 0 && this.loop.receive(this.#unread)) this.#room = null;
    this.#unread = this.loop.takeUnread();
    if (this.#unread.length > 0) return;
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

  /** Ends the session with `reason`, which the peer is told where the code is one for it; then the link. */
  stop(reason: VproxyError): Promise<VproxyError> {
    this.loop.stop(reason);
    this.loop.afterFlush(() => this.link.close());
    return this.closed;
  }
}

// What people can do about two sides that do not let each other in.

/** For behind the reason of an `auth-failed`; null where that says what to do. */
function adviceFor({ self, peer }: Agreement, { tls }: ChannelTraits): string | null {
  if (self.tls !== peer.tls) return null;
  if (tls === 'cert') return 'look at ca=, cert=, key= and peer= of both sides';
  if (self.auth === null) return "give this side the peer's key with --key FILE";
  if (peer.auth === null) return "give the peer this side's key with --key FILE";
  return 'give both sides the same key with --key FILE';
}

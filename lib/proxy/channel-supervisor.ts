/** What dialled and listening channels have in common: their runners, their sessions, and what the log says of them. */
import { EventEmitter } from 'eventemitter3';
import type { ChannelAddress } from '../channel/address.js';
import type { Link } from '../channel/link.js';
import type { VproxyError } from '../errors.js';
import type { Session } from '../session/session.js';
import type { SessionSettings } from '../session/settings.js';
import type { Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import type { LogEvent, LogEventName } from '../util/log-event.js';
import { adviceFor } from './auth-advice.js';
import { LinkRunner } from './link-runner.js';
import type { ChannelState } from './status.js';

export interface ChannelEvents {
  log: [event: LogEvent];
  /** What the channel does now, what it waits for or why it failed, and how long until it tries again by itself. */
  state: [state: ChannelState, detail: string | null, nextTryMs: number | null];
  /** A session is established: its `start` has to be called. */
  session: [session: Session];
  ended: [session: Session, reason: VproxyError];
  /** The channel can never work, or not any more. */
  fatal: [reason: VproxyError];
}

export interface SupervisorOptions {
  readonly channel: ChannelAddress;
  readonly settings: SessionSettings;
  readonly clock: Clock;
}

/** Back-off between attempts to open a channel. */
export const RETRY = { firstMs: 100, maxMs: 5000 } as const;

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
      this.log('info', 'session-established', `session with ${who} on ${description}`, {
        link: description,
        agent,
        name,
      });
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
      this.log(level, 'session-ended', message, {
        link: description,
        code: reason.code,
        ageMs: Math.round(session.ageMs),
      });
      this.emit('ended', session, reason);
    });
    runner.loop.on('quiet', (skippedBytes) => {
      const message = `no answer on ${description}: no vproxy at the other end yet, or another process has the channel`;
      this.tellState('waiting', message, { link: description, skippedBytes });
    });
    runner.loop.on('echo', () => {
      const message = `${description} echoes what this side sends: is the line raw, is a vproxy at the other end?`;
      this.tellState('echo', message, { link: description });
    });
    return runner;
  }

  /**
   * The channel waits: with `nextTryMs` for its next attempt, else for somebody. Logs it as the event `channel-WHAT`,
   * unless that was the last line.
   */
  protected tellState(
    what: 'waiting' | 'echo' | 'listening' | 'crowded',
    message: string,
    fields: LogEvent['fields'] = {},
    nextTryMs: number | null = null,
  ): void {
    if (what !== 'crowded') this.setState(nextTryMs === null ? 'waiting' : 'backing-off', message, nextTryMs);
    const key = `${what} ${message}`;
    if (key === this.#logged) return;
    this.#logged = key;
    this.log('info', `channel-${what}`, message, fields);
  }

  /** Tells a state of a channel without a session; with one it is that session that says how the channel is. */
  protected setState(state: ChannelState, detail: string | null = null, nextTryMs: number | null = null): void {
    if (this.#session === null) this.emit('state', state, detail, nextTryMs);
  }

  protected log(level: LogEvent['level'], event: LogEventName, message: string, fields: LogEvent['fields'] = {}): void {
    this.emit('log', { level, event, message, fields });
  }
}

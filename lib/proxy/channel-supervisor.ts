/** What dialled and listening channels have in common: their runners, their sessions, and what the log says of them. */
import { EventEmitter } from 'eventemitter3';
import type { ChannelAddress } from '../channel/address.js';
import type { Link } from '../channel/link.js';
import type { VproxyError } from '../errors.js';
import type { Session } from '../session/session.js';
import type { SessionSettings } from '../session/settings.js';
import type { Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import type { LogEvent } from '../util/log-event.js';
import { LinkRunner } from './link-runner.js';

export interface ChannelEvents {
  log: [event: LogEvent];
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
  /** The last state told, so that only changes are. */
  #state = '';

  constructor(options: SupervisorOptions) {
    super();
    this.options = options;
  }

  /** Begins to open the channel. Rejects where this side should listen and cannot. */
  abstract start(): Promise<void>;

  /** Ends sessions and links; `reason` is what the peers are told. */
  abstract stop(reason: VproxyError): Promise<void>;

  /** Makes the next attempt now, where one is waited for. */
  abstract retryNow(): void;

  /** A runner on a link whose sessions are told of. */
  protected run(link: Link): LinkRunner {
    const runner = new LinkRunner(link, this.options.clock, this.options.settings);
    const channel = link.description;
    runner.loop.on('session', (session) => {
      this.#state = '';
      const { agent, name } = session.agreement.peer;
      const who = [name === null ? '' : `${escapeText(name, 80)}, `, escapeText(agent, 80)].join('');
      this.log('info', 'session-established', `session with ${who} on ${channel}`, { channel, agent, name });
      this.emit('session', session);
    });
    runner.loop.on('ended', (session, reason) => {
      this.emit('ended', session, reason);
      const message = `session on ${channel} ended: ${escapeText(reason.message, 512)} (${reason.code})`;
      this.log('info', 'session-ended', message, { channel, code: reason.code, ageMs: Math.round(session.ageMs) });
    });
    runner.loop.on('quiet', (skippedBytes) => {
      const message = `no answer on ${channel}: no vproxy at the other end yet, or another process has the channel`;
      this.tellState('waiting', message, { channel, skippedBytes });
    });
    runner.loop.on('echo', () => {
      this.tellState('echo', `${channel} echoes what this side sends: is the line raw, is a vproxy at the other end?`, {
        channel,
      });
    });
    return runner;
  }

  /** Logs a state of the channel, unless it is the one that was logged last. */
  protected tellState(state: string, message: string, fields: LogEvent['fields'] = {}): void {
    const key = `${state} ${message}`;
    if (key === this.#state) return;
    this.#state = key;
    this.log('info', `channel-${state}`, message, { channel: this.options.channel.text, ...fields });
  }

  protected log(level: LogEvent['level'], event: string, message: string, fields: LogEvent['fields'] = {}): void {
    this.emit('log', { level, event, message, fields });
  }
}

/** Keeps a channel open that this side opens: again and again, for ever. */
import type { DialKind } from '../channel/kind.js';
import { toVproxyError, VproxyError } from '../errors.js';
import { SHORT_SESSION_MS } from '../session/session-loop.js';
import { Backoff } from '../util/backoff.js';
import { deferred } from '../util/deferred.js';
import { ChannelSupervisor, RETRY, type SupervisorOptions } from './channel-supervisor.js';
import type { LinkRunner } from './link-runner.js';

export class DialSupervisor extends ChannelSupervisor {
  readonly #kind: DialKind<unknown>;
  /** Between openings that led to no session. */
  readonly #backoff = new Backoff(RETRY);
  /** Behind links whose last session was short: a peer that lets each of them be established and then drops it costs little. */
  readonly #shortSessions = new Backoff(RETRY);
  readonly #stopping = new AbortController();
  #wasSessionShort = false;
  #runner: LinkRunner | null = null;
  #endPause: (() => void) | null = null;
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
    this.#endPause?.();
    await this.#runner?.stop(reason);
    await this.#running;
  }

  override retryNow(): void {
    this.#backoff.reset();
    this.#shortSessions.reset();
    this.#endPause?.();
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
      this.tellState('waiting', `${reason.message}; trying again`, { code: reason.code }, pauseMs);
      await this.#pause(pauseMs);
    }
  }

  /** Opens the channel and runs sessions on it until it is gone; why it is, or why it could not be opened. */
  async #openOnce(): Promise<VproxyError> {
    const { channel } = this.options;
    const { signal } = this.#stopping;
    this.#wasSessionShort = false;
    this.setState('opening');
    try {
      const report = { waiting: (what: string) => this.tellState('waiting', `${channel.text}: waiting for ${what}`) };
      const link = await this.#kind.dial(channel.address, { signal, report });
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

  async #pause(pauseMs: number): Promise<void> {
    const over = deferred();
    const cancel = this.options.clock.schedule(pauseMs, () => over.resolve());
    this.#endPause = () => over.resolve();
    await over.promise;
    cancel();
    this.#endPause = null;
  }
}

/** Keeps a channel open on which peers connect; the newest established one is the peer (R-CHANNEL-2). */
import type { ChannelListener, ListenKind } from '../channel/kind.js';
import type { Link } from '../channel/link.js';
import { toVproxyError, VproxyError } from '../errors.js';
import { Backoff } from '../util/backoff.js';
import { ChannelSupervisor, RETRY, type SupervisorOptions } from './channel-supervisor.js';
import { chooseCrowded } from './choose-crowded.js';
import type { LinkRunner } from './link-runner.js';

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
      this.tellState(
        'crowded',
        `more than ${MAX_WAITING} connections wait on ${text}: for each new one another is closed`,
      );
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
      this.log('debug', 'channel-closed', reason.message, { link: link.description, code: reason.code });
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
    if (!this.#isStopped) this.tellState('listening', `waiting for the peer on ${description}`);
  }

  #listenLater(error: VproxyError): void {
    this.#listener = null;
    if (this.#isStopped) return;
    const pauseMs = this.#backoff.next();
    this.tellState('waiting', `${error.message}; trying again`, { code: error.code }, pauseMs);
    this.#cancelRetry = this.options.clock.schedule(pauseMs, () => this.#retry());
  }

  #retry(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = null;
    this.start().catch((error: unknown) => this.#listenLater(toVproxyError(error)));
  }
}

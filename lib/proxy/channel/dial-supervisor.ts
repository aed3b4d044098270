/** Does what the keeper of a dialled channel decides: dials, closes, waits, looks for rivals. */
import type { DialKind } from '../../channel/kind.js';
import { toVproxyError, VproxyError } from '../../errors.js';
import { makeEvent } from '../../events.js';
import type { LinkRunner } from '../../link/link-runner.js';
import { Keeper, type KeeperHands } from './keeper.js';
import { deviceOf, type Rival } from './rival.js';
import { ChannelSupervisor, type SupervisorOptions } from './supervisor.js';

/** For a channel that this side opens, and reopens forever. */
export class DialSupervisor extends ChannelSupervisor {
  protected override readonly keeper = this.#makeKeeper();
  readonly #kind: DialKind<unknown>;
  readonly #stopping = new AbortController();
  /** The newest link. */
  #runner: LinkRunner | null = null;
  #dialling: Promise<void> = Promise.resolve();

  constructor(kind: DialKind<unknown>, options: SupervisorOptions) {
    super(options);
    this.#kind = kind;
  }

  #makeKeeper(): Keeper {
    const { channel, clock, sessions, record } = this.options;
    const hands: KeeperHands = {
      dial: () => {
        this.#dialling = this.#dial();
      },
      close: (event) => {
        sessions.log(event);
        this.#runner?.link.close();
      },
      look: (why, known, reason) => void this.#look(why, known, reason),
      show: (shown) => sessions.show(shown),
      tellQuiet: () => this.#runner !== null && super.quiet(this.#runner),
      giveUp: (reason) => this.#giveUp(reason),
    };
    return new Keeper(channel.text, clock, hands, record !== undefined && 'waits' in record ? record : undefined);
  }

  override start(): Promise<void> {
    this.keeper.start();
    return Promise.resolve();
  }

  override startPatiently(): void {
    this.keeper.start();
  }

  protected override startWith(restored: LinkRunner | null): void {
    if (restored === null) {
      this.keeper.succeed();
      return;
    }
    this.keeper.restore(restored.link);
    this.#follow(restored);
    restored.goOn();
  }

  override async stop(reason: VproxyError, closeMs?: number): Promise<void> {
    this.#stopping.abort();
    await super.stop(reason, closeMs);
    await this.#dialling;
  }

  #giveUp(reason: VproxyError): void {
    const { settings, sessions, onFatal } = this.options;
    // No other link will come for a session that waits for one.
    settings.resume?.kept.stop(reason);
    sessions.enter('failed', reason.message);
    onFatal(reason);
  }

  async #dial(): Promise<void> {
    const { channel, sessions, followsLinks = true } = this.options;
    const { signal } = this.#stopping;
    const waiting = (what: string) => {
      const event = makeEvent('channel-waiting', `${channel.text}: waiting for ${what}`, {});
      sessions.show({ state: 'waiting', event });
    };
    try {
      const link = await this.#kind.dial(channel.address, { signal, report: { waiting }, followsLinks });
      const runner = this.run(link);
      this.keeper.opened(link);
      this.#follow(runner);
      runner.start();
      if (signal.aborted) await runner.stop(new VproxyError('shutdown', 'shutting down'));
    } catch (error) {
      this.keeper.closed(toVproxyError(error, 'channel-failed'));
    }
  }

  #follow(runner: LinkRunner): void {
    const { loop, closed } = runner;
    const { keeper } = this;
    this.#runner = runner;
    loop.on('session', () => keeper.begun()).on('resumed', () => keeper.begun());
    loop.on('ended', (_session, end) => keeper.over(end)).on('suspended', () => keeper.over(null));
    void closed.then((reason) => {
      // One that ends the connection at once was never quiet.
      if (loop.stranger !== null) super.quiet(runner);
      keeper.closed(reason);
    });
  }

  protected override quiet({ loop }: LinkRunner): void {
    this.keeper.quiet(loop.stranger);
  }

  async #look(...[why, known, reason]: Parameters<KeeperHands['look']>): Promise<void> {
    const runner = this.#runner;
    const rival = known !== null && !(await known.hasLeft()) ? known : await this.#findRival(reason);
    if (why === 'silence' && runner?.loop.isAnswered === true) return;
    this.keeper.looked(why, rival);
  }

  async #findRival(reason: VproxyError | null): Promise<Rival | null> {
    const { channel, findRival } = this.options;
    return findRival({ channel, device: deviceOf(reason) }).catch(() => null);
  }
}

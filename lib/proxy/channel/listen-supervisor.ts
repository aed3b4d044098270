/** Does what the keeper of a listening channel decides: listens, closes, waits; and runs sessions on each connection. */
import type { ChannelListener, ListenKind } from '../../channel/kind.js';
import type { Hello } from '../../codec/hello.js';
import { toVproxyError, type VproxyError } from '../../errors.js';
import { makeEvent } from '../../events.js';
import type { Link } from '../../link/link.js';
import type { LinkRunner } from '../../link/link-runner.js';
import type { KeepDescriptor } from '../../system/descriptors.js';
import { escapeText } from '../../util/escape.js';
import { type ListenHands, ListenKeeper } from './listen-keeper.js';
import { ChannelSupervisor, type SupervisorOptions } from './supervisor.js';

/** For a channel to which peers connect: the newest connection with a session is the peer (R-CHANNEL-2). */
export class ListenSupervisor extends ChannelSupervisor {
  protected override readonly keeper = this.#makeKeeper();
  readonly #kind: ListenKind<unknown>;
  #listener: ChannelListener | null = null;
  /** Whether it keeps retrying if it cannot listen. */
  #isPatient = true;
  /** The current attempt to listen. */
  #listening: Promise<void> = Promise.resolve();

  constructor(kind: ListenKind<unknown>, options: SupervisorOptions) {
    super(options);
    this.#kind = kind;
  }

  #makeKeeper(): ListenKeeper<LinkRunner> {
    const { channel, clock, settings, sessions, record } = this.options;
    const { text, traits } = channel;
    const hands: ListenHands<LinkRunner> = {
      listen: () => {
        this.#listening = this.#listen(this.#isPatient);
      },
      close: (runner, reason) => void runner.stop(reason),
      drop: (runner) => {
        this.forget(runner);
        runner.link.destroy();
      },
      show: (shown) => sessions.show(shown),
      tell: (event) => sessions.tell(event),
      observe: ({ link: { origin = null }, loop: { isAnswered, session } }) => {
        return { origin, isAnswered, silentMs: session?.silentMs ?? null };
      },
      describe: (runner) => `${describeNewcomer(runner)}${this.#hint}`,
    };
    const options = { text, isExclusive: traits.isExclusive, endsSilent: settings.deadAfterMs !== null };
    return new ListenKeeper(options, clock, hands, record !== undefined && 'wait' in record ? record : undefined);
  }

  override async start(): Promise<void> {
    this.#isPatient = false;
    this.keeper.start();
    this.#isPatient = true;
    await this.#listening;
  }

  override startPatiently(): void {
    this.startWith(null);
  }

  protected override startWith(restored: LinkRunner | null): void {
    if (restored !== null) this.#follow(restored);
    this.keeper.start(restored);
    restored?.goOn();
  }

  protected override keepListener(keep: KeepDescriptor): number | null {
    return this.#listener?.capture?.(keep) ?? null;
  }

  override async stop(reason: VproxyError, closeMs?: number): Promise<void> {
    this.keeper.stop();
    await this.#listener?.close();
    await super.stop(reason, closeMs);
  }

  async #listen(isPatient: boolean): Promise<void> {
    const { inherited } = this;
    this.inherited = undefined;
    const handlers = {
      onLink: (link: Link) => this.#accept(link),
      onFailed: (error: VproxyError) => {
        this.#listener = null;
        this.keeper.failed(error);
      },
    };
    try {
      const listener = await this.#kind.listen(this.options.channel.address, handlers, inherited);
      this.#listener = listener;
      if (this.keeper.isStopped) await listener.close();
      else this.keeper.listening(listener.description);
    } catch (error) {
      if (!isPatient) throw error;
      this.keeper.failed(toVproxyError(error));
    }
  }

  #accept(link: Link): void {
    if (this.keeper.isStopped) {
      link.destroy();
      return;
    }
    const isTaken = ({ instance }: Hello) => this.keeper.isTaken(runner, instance);
    const runner = this.run(link, { ...this.options.settings, isTaken });
    this.#follow(runner);
    this.keeper.accepted(runner);
    runner.start();
  }

  #follow(runner: LinkRunner): void {
    const { link, loop, closed } = runner;
    const { keeper } = this;
    loop.on('session', (session) => keeper.begun(runner, session.agreement.peer.instance));
    loop.on('resumed', (session) => keeper.resumed(runner, session.agreement.peer.instance));
    loop.on('ended', ({ wasEstablished }, end) => keeper.over(runner, wasEstablished, end));
    loop.on('suspended', ({ wasEstablished }) => keeper.over(runner, wasEstablished, null));
    void closed.then((reason) => {
      const fields = { link: link.description, code: reason.code };
      this.options.sessions.log(makeEvent('channel-closed', reason.message, fields));
      keeper.closed(runner);
    });
  }

  /** How to keep the channel from any process that may connect; empty if the operator has. */
  get #hint(): string {
    const { settings, channel } = this.options;
    if (channel.traits.isExclusive || settings.keys().length > 0 || settings.secure !== null) return '';
    return '; to keep others out, listen with the option exclusive, or give both sides a --key';
  }
}

/** Describes the newcomer for the displaced peer: `host2, vproxy 0.1.0, from 192.0.2.7`. */
function describeNewcomer({ link, loop }: LinkRunner): string {
  const { name = null, agent = null } = loop.session?.agreement.peer ?? {};
  const { origin = null } = link;
  const from = origin === null ? null : `from ${origin}`;
  return [name, agent, from].flatMap((text) => (text === null ? [] : escapeText(text, 80))).join(', ');
}

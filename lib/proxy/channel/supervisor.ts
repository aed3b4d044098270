/** Runs the links and sessions of one channel: the common part of dialling and listening. */
import type { ChannelAddress } from '../../channel/address/address.js';
import { VproxyError } from '../../errors.js';
import type { Link } from '../../link/link.js';
import { LinkRunner, type RunnerState } from '../../link/link-runner.js';
import { Session, type SessionState } from '../../session/session.js';
import type { SessionSettings } from '../../session/settings.js';
import type { KeepDescriptor, TakeDescriptor } from '../../system/descriptors.js';
import type { Clock } from '../../util/clock.js';
import type { ChannelSessions } from './channel-sessions.js';
import type { Keeper, KeeperRecord } from './keeper.js';
import type { ListenKeeper, ListenRecord } from './listen-keeper.js';
import type { FindRival } from './rival.js';

export interface SupervisorOptions {
  readonly channel: ChannelAddress;
  readonly settings: SessionSettings;
  /** The socket buffer to request for a link over a unix socket, in bytes. */
  readonly bufferBytes: number;
  readonly clock: Clock;
  /** Whether to follow a symbolic link to a socket. Default true. */
  readonly followsLinks?: boolean;
  /** Receives the state of the channel and the sessions on its links. */
  readonly sessions: ChannelSessions;
  /** Looks for another process of this machine that has the channel. */
  readonly findRival: FindRival;
  /** Called when the channel can never work, or never again. */
  readonly onFatal: (reason: VproxyError) => void;
  /** The state of a predecessor's keeper, if any. */
  readonly record?: SupervisorState['keeper'] | undefined;
}

/** How long peers may take to read the last bytes of a channel that has drained, in milliseconds. */
const CLOSE_MS = 30_000;

/** State of a channel for a successor process. */
export interface SupervisorState {
  readonly keeper: KeeperRecord | ListenRecord;
  /** The index of the listening descriptor; null if there is none, or if it cannot be handed over. */
  readonly listener: number | null;
  /** Bytes that belonged to no session, on all links. */
  readonly skippedBytes: number;
  readonly session: {
    readonly state: SessionState;
    /** Its link; null if it has none, or if it cannot be handed over. */
    readonly runner: RunnerState | null;
    /** When it expires without a link, by the clock; null if it has a link. */
    readonly endAtMs: number | null;
  } | null;
}

/** The common part of both: the open links. */
export abstract class ChannelSupervisor {
  protected readonly options: SupervisorOptions;
  protected readonly runners = new Set<LinkRunner>();
  /** A descriptor that already listens, for the next start. */
  protected inherited: number | undefined;
  /** Between `restore` and `goOn`. */
  #restored: { readonly runner: LinkRunner | null; readonly session: Session } | null = null;
  /** On links that have closed, and on those of a predecessor. */
  #skippedBytes = 0;

  constructor(options: SupervisorOptions) {
    this.options = options;
  }

  /** Bytes that belonged to no session, on all links. */
  get skippedBytes(): number {
    return [...this.runners].reduce((sum, { loop }) => sum + loop.skippedBytes, this.#skippedBytes);
  }

  /** The socket buffer of the session's link: see `Link.bufferBytes`. */
  get bufferBytes(): number | null {
    return [...this.runners].find(({ loop }) => loop.session !== null)?.link.bufferBytes ?? null;
  }

  /** Begins to open the channel. Rejects if this side should listen and cannot. */
  abstract start(): Promise<void>;

  /** As `start`, but keeps retrying if it cannot listen. */
  abstract startPatiently(): void;

  /** As `stop`, but patiently: the peers have 30 s to read what they were sent. */
  close(reason: VproxyError): Promise<void> {
    return this.stop(reason, CLOSE_MS);
  }

  /** Ends sessions and links; the peers receive `reason`. For `closeMs`, see `Link.close`. */
  async stop(reason: VproxyError, closeMs?: number): Promise<void> {
    this.keeper.stop();
    this.options.settings.resume?.kept.stop(reason);
    await Promise.all([...this.runners].map((runner) => runner.stop(reason, closeMs)));
  }

  /** Makes a pending attempt now. */
  retryNow(): void {
    this.keeper.retryNow();
  }

  capture(session: Session | null, keep: KeepDescriptor): SupervisorState {
    const endAtMs = session === null ? null : (this.options.settings.resume?.kept.endAtMs(session) ?? null);
    return {
      keeper: this.keeper.record,
      listener: this.keepListener?.(keep) ?? null,
      skippedBytes: this.skippedBytes,
      session: session === null ? null : { state: session.state, runner: this.#captureLink(session, keep), endAtMs },
    };
  }

  /** Whether the link of a session could be handed over now. */
  canHandOver(session: Session): boolean {
    return this.#captureLink(session, () => 0) !== null;
  }

  #captureLink(session: Session, keep: KeepDescriptor): RunnerState | null {
    return [...this.runners].find(({ loop }) => loop.session === session)?.capture(keep) ?? null;
  }

  /** Restores a predecessor's state and returns its session; used instead of `start`, before `goOn`. */
  restore({ listener, skippedBytes, session: captured }: SupervisorState, take: TakeDescriptor): Session | null {
    const { settings, clock } = this.options;
    this.#skippedBytes = skippedBytes;
    if (listener !== null) this.inherited = take(listener);
    if (captured === null) return null;
    const runner = captured.runner === null ? null : this.#restoreLink(captured.runner, take);
    const session =
      runner === null || captured.runner === null
        ? Session.restore(captured.state, { sink: null, clock, settings })
        : runner.restore(captured.state, captured.runner);
    if (runner === null) settings.resume?.kept.adopt(session, captured.endAtMs);
    this.#restored = { runner, session };
    return session;
  }

  #restoreLink({ link }: RunnerState, take: TakeDescriptor): LinkRunner {
    const { channel } = this.options;
    if (channel.kind.restoreLink === undefined)
      throw new VproxyError('upgrade-failed', `${channel.text}: links of this kind cannot be handed over`);
    return this.run(channel.kind.restoreLink(link, take));
  }

  /** After `restore`: continues the session, and opens the channel if the session has no link. */
  goOn(): void {
    const { runner = null, session = null } = this.#restored ?? {};
    this.#restored = null;
    this.startWith(runner);
    if (runner === null) session?.goOn();
  }

  /** Decides about the channel. */
  protected abstract readonly keeper: Keeper | ListenKeeper<LinkRunner>;

  /** As `start`, with the restored link, if any. */
  protected abstract startWith(restored: LinkRunner | null): void;

  /** Only where this side listens. */
  protected keepListener?(keep: KeepDescriptor): number | null;

  /** Creates a runner on a link; the caller starts it. */
  protected run(link: Link, settings = this.options.settings): LinkRunner {
    const { clock, sessions, bufferBytes } = this.options;
    link.wantBuffer?.(bufferBytes);
    const runner = new LinkRunner(link, clock, settings);
    this.runners.add(runner);
    void runner.closed.then(() => this.forget(runner));
    sessions.follow(runner.loop, link.description);
    runner.loop.on('abandoned', (reason) => runner.abandon(reason));
    runner.loop.on('quiet', () => this.quiet(runner));
    return runner;
  }

  /** The peer does not answer on a link. */
  protected quiet({ link, loop }: LinkRunner): void {
    this.options.sessions.tellQuiet(link.description, loop.skippedBytes, loop.stranger);
  }

  /** Stops counting a link, even if it closes later. */
  protected forget(runner: LinkRunner): void {
    if (this.runners.delete(runner)) this.#skippedBytes += runner.loop.skippedBytes;
  }
}

/** Keeps a channel open: the common part of dialling and listening, and the dialling side with its retries. */
import type { ChannelAddress } from '../../channel/address/address.js';
import type { DialKind } from '../../channel/kind.js';
import { toVproxyError, VproxyError } from '../../errors.js';
import { makeEvent } from '../../events.js';
import type { Link } from '../../link/link.js';
import { LinkRunner, type RunnerState } from '../../link/link-runner.js';
import { SHORT_SESSION_MS } from '../../session/opening/opening-pause.js';
import { Session, type SessionState } from '../../session/session.js';
import type { SessionSettings } from '../../session/settings.js';
import type { KeepDescriptor, TakeDescriptor } from '../../system/descriptors.js';
import { Backoff, type Clock, pause } from '../../util/clock.js';
import type { ChannelSessions } from './channel-sessions.js';
import { type FindRival, formatRival, type Rival, RivalWatch } from './rival.js';

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
}

/** Back-off between attempts to open a channel; both sides are often started together, and an attempt costs little. */
const REOPEN = { firstMs: 10, maxMs: 5000 } as const;

/** Back-off after a failure to listen or a short session. */
export const RETRY = { firstMs: 100, maxMs: 5000 } as const;

/**
 * Back-off after another side that cannot be seen from here displaced this one. The two could displace each other forever,
 * so they do it ever less often.
 */
const RETAKE = { firstMs: 1000, maxMs: 60_000 } as const;

/** Delay before looking for the process that took the channel: it opens its channels before its control socket. */
const SETTLE_MS = 300;

/** After holding the channel this long (ms), a takeover no longer counts as part of a fight. */
const KEPT_MS = 5 * RETAKE.maxMs;

/** State of a channel for a successor process. */
export interface SupervisorState {
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

  /** Ends sessions and links; the peers receive `reason`. */
  async stop(reason: VproxyError): Promise<void> {
    this.options.settings.resume?.kept.stop(reason);
    await Promise.all([...this.runners].map((runner) => runner.stop(reason)));
  }

  /** Makes a pending attempt now. */
  abstract retryNow(): void;

  /** Captures the state for a successor. */
  capture(session: Session | null, keep: KeepDescriptor): SupervisorState {
    const endAtMs = session === null ? null : (this.options.settings.resume?.kept.endAtMs(session) ?? null);
    return {
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
    runner.loop.on('quiet', (skippedBytes) => this.tellQuiet(runner, skippedBytes));
    return runner;
  }

  /** The peer does not answer on a link. */
  protected tellQuiet({ link, loop }: LinkRunner, skippedBytes: number): void {
    this.options.sessions.tellQuiet(link.description, skippedBytes, loop.stranger);
  }

  /** Stops counting a link, even if it closes later. */
  protected forget(runner: LinkRunner): void {
    if (this.runners.delete(runner)) this.#skippedBytes += runner.loop.skippedBytes;
  }
}

/** The outcome of an attempt to open a channel, or of the resulting link; it determines the next step. */
type Outcome =
  /** The channel can never work, or never again: give it up. */
  | { readonly name: 'fatal'; readonly reason: VproxyError }
  /** The link was closed because its other end may be stuck: reopen it at once. */
  | { readonly name: 'stuck' }
  /** Another connection displaced the session: leave the channel to it, or the two would displace each other forever. */
  | { readonly name: 'displaced'; readonly reason: VproxyError }
  /** The last session was short or refused. A peer that lets each one be established and then drops it must cost little. */
  | { readonly name: 'short'; readonly reason: VproxyError }
  /** There was no link, or no session on it, or a long one. */
  | { readonly name: 'lost'; readonly reason: VproxyError };

/** For a channel that this side opens, and reopens forever. */
export class DialSupervisor extends ChannelSupervisor {
  readonly #kind: DialKind<unknown>;
  /** The back-off after each outcome that has one. */
  readonly #waits = { lost: new Backoff(REOPEN), short: new Backoff(RETRY), displaced: new Backoff(RETAKE) };
  readonly #rivals: RivalWatch;
  readonly #stopping = new AbortController();
  /** Whether a link was closed for lack of an answer, and no session was established since. */
  #hasRedialled = false;
  #pausing = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(kind: DialKind<unknown>, options: SupervisorOptions) {
    super(options);
    this.#kind = kind;
    this.#rivals = new RivalWatch(options.channel, options.findRival, options.clock, this.#stopping.signal);
  }

  override start(): Promise<void> {
    this.#running = this.#keepOpen(null);
    return Promise.resolve();
  }

  protected override startWith(restored: LinkRunner | null): void {
    this.#running = restored === null ? this.#openWhenFree() : this.#keepOpen(restored);
  }

  override startPatiently(): void {
    void this.start();
  }

  override async stop(reason: VproxyError): Promise<void> {
    this.#stopping.abort();
    this.#pausing.abort();
    await super.stop(reason);
    await this.#running;
  }

  override retryNow(): void {
    for (const wait of Object.values(this.#waits)) wait.reset();
    this.#pausing.abort();
  }

  /** `first` is a restored link to begin with, or null to open one. */
  async #keepOpen(first: LinkRunner | null): Promise<void> {
    for (let restored = first; ; restored = null) {
      const outcome = await (restored === null ? this.#openOnce() : this.#goOnWith(restored));
      if (this.#stopping.signal.aborted) return;
      switch (outcome.name) {
        case 'fatal':
          this.#giveUp(outcome.reason);
          return;
        case 'stuck':
          break;
        case 'displaced':
          await this.#giveWay(outcome.reason);
          break;
        case 'short':
        case 'lost':
          await this.#backOff(outcome);
      }
    }
  }

  /** In a successor without a link: a channel that its predecessor left to another process still belongs to that one. */
  async #openWhenFree(): Promise<void> {
    await this.#waitForRival(await this.#rivals.look(null));
    await this.#keepOpen(null);
  }

  #giveUp(reason: VproxyError): void {
    const { settings, sessions, onFatal } = this.options;
    // No other link will come for a session that waits for one.
    settings.resume?.kept.stop(reason);
    sessions.enter('failed', reason.message);
    onFatal(reason);
  }

  async #backOff({ name, reason }: Extract<Outcome, { name: 'short' | 'lost' }>): Promise<void> {
    const { clock, sessions } = this.options;
    const pauseMs = this.#waits[name].next();
    // Created before the search, so that a `retryNow` during the search takes effect.
    this.#pausing = new AbortController();
    const mayBeTaken = reason.code === 'channel-busy' || (reason.code === 'channel-closed' && name === 'short');
    const rival = mayBeTaken ? await this.#rivals.look(reason) : null;
    const message = rival === null ? reason.message : `${reason.message}: ${formatRival(rival)} has it`;
    sessions.retry({ code: reason.code, message }, pauseMs);
    await pause(clock, pauseMs, this.#pausing.signal);
  }

  async #giveWay(displacement: VproxyError): Promise<void> {
    await this.#pause(SETTLE_MS);
    const rival = await this.#rivals.look(displacement);
    if (rival === null) {
      // Probably a process of another machine or user.
      const pauseMs = this.#waits.displaced.next();
      this.options.sessions.retry(displacement, pauseMs);
      await this.#pause(pauseMs);
    }
    await this.#waitForRival(rival ?? (await this.#rivals.look(displacement)));
  }

  /** Waits until the rival has left. */
  async #waitForRival(rival: Rival | null): Promise<void> {
    if (rival === null) return;
    const { channel, sessions } = this.options;
    const looks = new Backoff(RETRY);
    const message = `${formatRival(rival)} took the channel ${channel.text}; waiting until it releases it`;
    const event = makeEvent('channel-taken', message, { pid: rival.pid, name: rival.name });
    do {
      const pauseMs = looks.next();
      sessions.yield(event, pauseMs);
      await this.#pause(pauseMs);
    } while (!this.#stopping.signal.aborted && !(await this.#rivals.hasLeft(rival)));
  }

  /** Pauses until the time is over, or until `retryNow` or `stop`. */
  async #pause(pauseMs: number): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#pausing = new AbortController();
    await pause(this.options.clock, pauseMs, this.#pausing.signal);
  }

  /** Opens the channel and runs sessions on it until its link closes. */
  async #openOnce(): Promise<Outcome> {
    const { channel, sessions, followsLinks = true } = this.options;
    const { signal } = this.#stopping;
    sessions.enter('opening');
    try {
      const waiting = (what: string) =>
        sessions.wait(makeEvent('channel-waiting', `${channel.text}: waiting for ${what}`, {}));
      const link = await this.#kind.dial(channel.address, { signal, report: { waiting }, followsLinks });
      const runner = this.run(link);
      const outcome = this.#follow(runner, null);
      runner.start();
      if (signal.aborted) void runner.stop(new VproxyError('shutdown', 'shutting down'));
      return await outcome;
    } catch (error) {
      return outcomeOf('lost', toVproxyError(error, 'channel-failed'));
    }
  }

  /** As `#openOnce`, on a predecessor's link with its session. */
  #goOnWith(runner: LinkRunner): Promise<Outcome> {
    const outcome = this.#follow(runner, this.options.clock.now() - (runner.loop.session?.ageMs ?? 0));
    runner.goOn();
    return outcome;
  }

  /** Resolves with the outcome of a link, which its last session determines; `firstAtMs` is when a restored session began. */
  async #follow({ link, loop, closed }: LinkRunner, firstAtMs: number | null): Promise<Outcome> {
    const { clock, sessions } = this.options;
    let name: 'stuck' | 'displaced' | 'short' | 'lost' = 'lost';
    let reason: VproxyError | null = null;
    let begunAtMs = firstAtMs;
    // A link that had a session is not stuck; nor is the one after a redialled link: its peer is just not there yet.
    let mayBeStuck = link.mayBeStuck === true && firstAtMs === null && !this.#hasRedialled;
    const begun = (): void => {
      begunAtMs = clock.now();
      this.#waits.lost.reset();
      this.#rivals.reset();
      this.#hasRedialled = false;
    };
    const over = (ended: VproxyError | null): void => {
      const ageMs = begunAtMs === null ? 0 : clock.now() - begunAtMs;
      begunAtMs = null;
      mayBeStuck = false;
      if (ageMs >= SHORT_SESSION_MS) this.#waits.short.reset();
      if (ageMs >= KEPT_MS) this.#waits.displaced.reset();
      reason = ended;
      name = ended?.code === 'channel-displaced' ? 'displaced' : ageMs < SHORT_SESSION_MS ? 'short' : 'lost';
    };
    loop.on('session', begun).on('resumed', begun);
    loop.on('ended', (_session, ended) => over(ended)).on('suspended', () => over(null));
    loop.once('quiet', () => {
      if (!mayBeStuck || loop.stranger !== null) return;
      name = 'stuck';
      this.#hasRedialled = true;
      const message = `reopening ${link.description}: its other end may be stuck`;
      sessions.log(makeEvent('channel-redialled', message, { link: link.description }));
      link.close();
    });
    const gone = await closed;
    // One that ends the connection at once was never quiet.
    if (begunAtMs === null && loop.stranger !== null)
      sessions.tellQuiet(link.description, loop.skippedBytes, loop.stranger);
    return outcomeOf(name, gone, reason);
  }

  /** QEMU serves one process, and keeps the others waiting in silence. */
  protected override tellQuiet(runner: LinkRunner, skippedBytes: number): void {
    if (this.#rivals.known === null) super.tellQuiet(runner, skippedBytes);
    void this.#nameSilentRival(runner);
  }

  async #nameSilentRival({ link, loop }: LinkRunner): Promise<void> {
    const rival = await this.#rivals.look(null);
    if (rival === null || loop.isAnswered || this.#stopping.signal.aborted) return;
    const message = `no answer on ${link.description}: ${formatRival(rival)} has the channel`;
    this.options.sessions.wait(makeEvent('channel-taken', message, { pid: rival.pid, name: rival.name }));
  }
}

/** `gone` is why the link closed or could not be opened; the end of a displaced or refused session says more. */
function outcomeOf(
  name: 'stuck' | 'displaced' | 'short' | 'lost',
  gone: VproxyError,
  ended: VproxyError | null = null,
): Outcome {
  if (name === 'stuck') return { name };
  if (!gone.row.retry) return { name: 'fatal', reason: gone };
  const isTaken = name === 'displaced' || ended?.code === 'channel-busy';
  return { name, reason: isTaken ? (ended ?? gone) : gone };
}

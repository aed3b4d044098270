/** Keeps a listening channel open, and runs sessions on each connection. */
import type { ChannelListener, ListenKind } from '../../channel/kind.js';
import type { Hello } from '../../codec/hello.js';
import { toVproxyError, VproxyError } from '../../errors.js';
import { makeEvent } from '../../events.js';
import type { Link } from '../../link/link.js';
import type { LinkRunner } from '../../link/link-runner.js';
import type { Session } from '../../session/session.js';
import type { KeepDescriptor } from '../../system/descriptors.js';
import { Backoff, type CancelTimer } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import { ChannelSupervisor, DialSupervisor, RETRY, type SupervisorOptions } from './supervisor.js';

export function supervise(options: SupervisorOptions): ChannelSupervisor {
  const { kind } = options.channel;
  return kind.mode === 'dial' ? new DialSupervisor(kind, options) : new ListenSupervisor(kind, options);
}

/** Limit on connections that have not completed a handshake; one more closes one of them. */
const MAX_WAITING = 16;

/**
 * Where silence ends no session, the peer of an exclusive channel loses it to another one after this much silence: it
 * answers a PING every five seconds (R-LIVE-1). It also keeps the channel this long without a session while its link is open.
 */
const KEPT_MS = 60_000;

type ListenState =
  | { readonly name: 'starting' | 'stopped' }
  | { readonly name: 'listening'; readonly listener: ChannelListener }
  | { readonly name: 'backing-off'; readonly cancel: CancelTimer };

/** For a channel to which peers connect: the newest connection with a session is the peer (R-CHANNEL-2). */
export class ListenSupervisor extends ChannelSupervisor {
  readonly #kind: ListenKind<unknown>;
  readonly #backoff = new Backoff(RETRY);
  #state: ListenState = { name: 'starting' };
  #established: LinkRunner | null = null;
  /** The process at its other end, and when the last session on it ended. */
  #peerInstance = '';
  #endedAtMs = 0;

  constructor(kind: ListenKind<unknown>, options: SupervisorOptions) {
    super(options);
    this.#kind = kind;
  }

  override async start(): Promise<void> {
    const handlers = {
      onLink: (link: Link) => this.#accept(link),
      onFailed: (error: VproxyError) => this.#listenLater(error),
    };
    const { inherited } = this;
    this.inherited = undefined;
    const listener = await this.#kind.listen(this.options.channel.address, handlers, inherited);
    if (this.#isStopped) {
      await listener.close();
      return;
    }
    this.#state = { name: 'listening', listener };
    if (this.runners.size === 0) this.#tellListening();
  }

  protected override startWith(restored: LinkRunner | null): void {
    if (restored !== null) {
      this.#hold(restored);
      this.#watch(restored);
      restored.goOn();
    }
    this.startPatiently();
  }

  protected override keepListener(keep: KeepDescriptor): number | null {
    return this.#state.name === 'listening' ? (this.#state.listener.capture?.(keep) ?? null) : null;
  }

  override startPatiently(): void {
    this.start().catch((error: unknown) => this.#listenLater(toVproxyError(error)));
  }

  override async stop(reason: VproxyError): Promise<void> {
    const state = this.#state;
    this.#state = { name: 'stopped' };
    if (state.name === 'backing-off') state.cancel();
    if (state.name === 'listening') await state.listener.close();
    await super.stop(reason);
  }

  override retryNow(): void {
    this.#backoff.reset();
    if (this.#state.name !== 'backing-off') return;
    this.#state.cancel();
    this.#retry();
  }

  get #isStopped(): boolean {
    return this.#state.name === 'stopped';
  }

  #listenLater(error: VproxyError): void {
    if (this.#isStopped) return;
    const { clock, sessions } = this.options;
    const pauseMs = this.#backoff.next();
    this.#state = { name: 'backing-off', cancel: clock.schedule(pauseMs, () => this.#retry()) };
    sessions.retry(error, pauseMs);
  }

  #retry(): void {
    this.#state = { name: 'starting' };
    this.startPatiently();
  }

  #accept(link: Link): void {
    if (this.#isStopped) {
      link.destroy();
      return;
    }
    this.#makeRoomFor(link);
    const isTaken = (peer: Hello) => this.#isTaken(runner, peer);
    const { settings, channel } = this.options;
    const runner = this.run(link, channel.traits.isExclusive ? { ...settings, isTaken } : settings);
    this.#watch(runner);
    this.options.sessions.enter('opening');
    runner.start();
  }

  #watch(runner: LinkRunner): void {
    const { link, loop, closed } = runner;
    const { sessions } = this.options;
    loop.on('session', () => this.#displace(runner));
    // The previous link has already been abandoned.
    loop.on('resumed', () => this.#hold(runner));
    const noteEnd = ({ isReady }: Session): void => {
      if (isReady && runner === this.#established) this.#endedAtMs = this.options.clock.now();
    };
    loop.on('suspended', noteEnd).on('ended', (session, reason) => {
      noteEnd(session);
      // Later: the loop has not finished with the session yet.
      if (reason.code === 'channel-busy') queueMicrotask(() => void runner.stop(reason));
    });
    void closed.then((reason) => {
      if (this.#established === runner) this.#established = null;
      const fields = { link: link.description, code: reason.code };
      sessions.log(makeEvent('channel-closed', reason.message, fields));
      if (this.runners.size === 0) this.#tellListening();
    });
  }

  /** Whether an exclusive channel keeps the peer of another link, and refuses this one (R-CHANNEL-3). */
  #isTaken(newcomer: LinkRunner, { instance }: Hello): boolean {
    if (this.#established === null || this.#established === newcomer) return false;
    const { clock, settings } = this.options;
    // The same process: it has noticed before this side that its link is lost.
    if (instance !== '' && instance === this.#peerInstance) return false;
    const { session } = this.#established.loop;
    if (session === null) return clock.now() - this.#endedAtMs < KEPT_MS;
    return settings.deadAfterMs !== null || session.silentMs < KEPT_MS;
  }

  #makeRoomFor(newcomer: Link): void {
    const waiting = [...this.runners].filter((runner) => runner !== this.#established);
    if (waiting.length < MAX_WAITING) return;
    const { channel, sessions } = this.options;
    const message = `too many pending connections on ${channel.text} (max ${MAX_WAITING}): dropping one for each new one`;
    sessions.tell(makeEvent('channel-crowded', message, {}));
    const candidates = waiting.map((runner) => {
      return { runner, origin: runner.link.origin ?? null, isAnswered: runner.loop.isAnswered };
    });
    const { runner } = chooseCrowded(candidates, newcomer.origin ?? null);
    this.forget(runner);
    runner.link.destroy();
  }

  #hold(runner: LinkRunner): void {
    this.#established = runner;
    this.#peerInstance = runner.loop.session?.agreement.peer.instance ?? '';
    this.#backoff.reset();
  }

  /** A connection with a session replaces the previous one. */
  #displace(runner: LinkRunner): void {
    const previous = this.#established;
    this.#hold(runner);
    if (previous === null || previous === runner) return;
    // The peer that lost the channel is sent this, too.
    const message = `a newer connection took the channel: ${describeNewcomer(runner)}${this.#hint}`;
    void previous.stop(new VproxyError('channel-displaced', message));
  }

  /** How to keep the channel from any process that may connect; empty if the operator has. */
  get #hint(): string {
    const { settings, channel } = this.options;
    if (channel.traits.isExclusive || settings.keys().length > 0 || settings.secure !== null) return '';
    return '; to keep others out, listen with the option exclusive, or give both sides a --key';
  }

  #tellListening(): void {
    if (this.#state.name !== 'listening') return;
    const { description } = this.#state.listener;
    this.options.sessions.wait(makeEvent('channel-listening', `waiting for the peer on ${description}`, {}));
  }
}

/** Describes the newcomer for the displaced peer: `host2, vproxy 0.1.0, from 192.0.2.7`. */
function describeNewcomer({ link, loop }: LinkRunner): string {
  const { name = null, agent = null } = loop.session?.agreement.peer ?? {};
  const { origin = null } = link;
  const from = origin === null ? null : `from ${origin}`;
  return [name, agent, from].flatMap((text) => (text === null ? [] : escapeText(text, 80))).join(', ');
}

/** What is known about a connection before its peer is authenticated. */
export interface WaitingConnection {
  /** The machine that it comes from, or the user of this machine; null if the channel does not tell. */
  readonly origin: string | null;
  /** Whether its other end has answered our HELLO, and not failed since. */
  readonly isAnswered: boolean;
}

/**
 * Chooses the connection to drop from `waiting`, which is not empty: one of the machine or user with the most connections,
 * counting the newcomer; there preferably one that has not answered; and among these a random one, so that a program that
 * opens connections in a loop cannot predict it. `random` returns numbers from 0 to below 1.
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

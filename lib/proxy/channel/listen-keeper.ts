/**
 * Decides when a channel listens, which of the connections to it is the peer, and which are dropped (R-CHANNEL-2, R-CHANNEL-3). It
 * does no I/O: it is told what happens, and tells its hands what to do.
 */
import { successorOf, VproxyError } from '../../errors.js';
import { type LogEvent, makeEvent } from '../../events.js';
import { Backoff, type BackoffState, type CancelTimer, type Clock } from '../../util/clock.js';
import type { Shown } from './keeper.js';

export const LISTENER_STATES = {
  starting: ['listening', 'backing-off', 'stopped'],
  listening: ['backing-off', 'stopped'],
  'backing-off': ['starting', 'stopped'],
  stopped: [],
} as const;

type ListenerState = keyof typeof LISTENER_STATES;

/** Back-off after a failure to listen. */
const RETRY = { firstMs: 100, maxMs: 5000 } as const;

/** Limit on connections that have not completed a handshake; one more closes one of them. */
const MAX_WAITING = 16;

/**
 * Where silence ends no session, the peer of an exclusive channel loses it to another one after this much silence: it
 * answers a PING every five seconds (R-LIVE-1). It also keeps the channel this long without a session while its link is open.
 */
const RESERVED_MS = 60_000;

/** The state of a keeper, which a successor process takes. */
export interface ListenRecord {
  state: ListenerState;
  readonly wait: BackoffState;
  /** The instance id of the peer's process; empty without a link, or if the peer sends none. */
  peerInstance: string;
  /** When the last session on that link ended, by the clock. */
  endedAtMs: number;
}

const newRecord = (): ListenRecord => ({
  state: 'starting',
  wait: { nominalMs: RETRY.firstMs },
  peerInstance: '',
  endedAtMs: 0,
});

/** What is known about a connection. */
export interface Connection {
  /** The machine that it comes from, or the user of this machine; null if the channel does not tell. */
  readonly origin: string | null;
  /** Whether its other end has answered our HELLO, and not failed since. */
  readonly isAnswered: boolean;
  /** How long nothing has come in its session; null if it has none. */
  readonly silentMs: number | null;
}

/** Does what a keeper decides, and answers it. What follows calls the keeper again, in a later turn. */
export interface ListenHands<L> {
  /** `listening` or `failed` follows. */
  listen(): void;
  /** Closes a link and tells its peer why; `closed` follows. */
  close(link: L, reason: VproxyError): void;
  /** Closes a link at once. */
  drop(link: L): void;
  show(shown: Shown): void;
  /** Logs a line unless it was the last one. */
  tell(event: LogEvent): void;
  observe(link: L): Connection;
  /** For the log of a peer that another one displaces: who that is, and how the operator can prevent it. */
  describe(link: L): string;
}

interface ListenOptions {
  /** The address of the channel. */
  readonly text: string;
  readonly isExclusive: boolean;
  /** Whether silence ends a session. */
  readonly endsSilent: boolean;
}

/** Call `start` once, first. `L` identifies a link. After `stop`, only `closed` may follow. */
export class ListenKeeper<L> {
  readonly record: ListenRecord;
  readonly #options: ListenOptions;
  readonly #clock: Clock;
  readonly #hands: ListenHands<L>;
  readonly #random: () => number;
  readonly #backoff: Backoff;
  readonly #links = new Set<L>();
  /** The one with the newest session. */
  #established: L | null = null;
  #description = '';
  /** Null if it does not wait. */
  #cancelWait: CancelTimer | null = null;

  /** `record` is a predecessor's, if any; `random` returns numbers from 0 to below 1. */
  constructor(options: ListenOptions, clock: Clock, hands: ListenHands<L>, record = newRecord(), random = Math.random) {
    this.#options = options;
    this.#clock = clock;
    this.#hands = hands;
    this.#random = random;
    this.record = record;
    this.#backoff = new Backoff({ ...RETRY, random }, record.wait);
  }

  #enter(next: ListenerState): void {
    this.record.state = successorOf('the listener', LISTENER_STATES, this.record.state, next);
  }

  get isStopped(): boolean {
    return this.record.state === 'stopped';
  }

  /** With the link that a predecessor handed over with its session, if any. */
  start(restored: L | null = null): void {
    // It may have been stopped while it waited for the channel that it replaces.
    if (this.isStopped) return;
    this.record.state = 'starting';
    if (restored !== null) {
      this.#links.add(restored);
      this.#established = restored;
    }
    this.#hands.listen();
  }

  stop(): void {
    this.#cancelWait?.();
    if (!this.isStopped) this.#enter('stopped');
  }

  /** `description` is the address that it listens on. */
  listening(description: string): void {
    if (this.isStopped) return;
    this.#enter('listening');
    this.#description = description;
    this.#tellListening();
  }

  /** The listener could not be opened, or has closed. */
  failed({ code, message }: VproxyError): void {
    if (this.isStopped) return;
    this.#enter('backing-off');
    const nextTryMs = this.#backoff.next();
    const event = makeEvent('channel-waiting', `${message}; retrying`, { code });
    // First: who hears of it may stop the channel.
    this.#cancelWait = this.#clock.schedule(nextTryMs, () => this.#retry());
    this.#hands.show({ state: 'backing-off', event, detail: message, nextTryMs });
  }

  #retry(): void {
    this.#cancelWait = null;
    this.#enter('starting');
    this.#hands.listen();
  }

  /** The operator wants an attempt now. */
  retryNow(): void {
    this.#backoff.reset();
    if (this.#cancelWait === null || this.isStopped) return;
    this.#cancelWait();
    this.#retry();
  }

  /** A peer connected. */
  accepted(link: L): void {
    this.#makeRoomFor(link);
    this.#links.add(link);
    this.#hands.show({ state: 'opening', event: null });
  }

  #makeRoomFor(newcomer: L): void {
    const waiting = [...this.#links].filter((link) => link !== this.#established);
    if (waiting.length < MAX_WAITING) return;
    const message = `too many pending connections on ${this.#options.text} (max ${MAX_WAITING}): dropping one for each new one`;
    this.#hands.tell(makeEvent('channel-crowded', message, {}));
    const candidates = waiting.map((link) => ({ ...this.#hands.observe(link), link }));
    const { link } = chooseCrowded(candidates, this.#hands.observe(newcomer).origin, this.#random);
    this.#links.delete(link);
    this.#hands.drop(link);
  }

  /** A session was established on a link, which replaces the peer's: the peer that lost the channel is told by whom. */
  begun(link: L, instance: string): void {
    const previous = this.#established;
    this.resumed(link, instance);
    if (previous === null || previous === link) return;
    const message = `a newer connection took the channel: ${this.#hands.describe(link)}`;
    this.#hands.close(previous, new VproxyError('channel-displaced', message));
  }

  /** A session continues on a link. Its previous link has already been abandoned. */
  resumed(link: L, instance: string): void {
    this.#established = link;
    this.record.peerInstance = instance;
    this.#backoff.reset();
  }

  /** A session has ended or left its link; `wasEstablished`: it was established. */
  over(link: L, wasEstablished: boolean, end: VproxyError | null): void {
    if (wasEstablished && link === this.#established) this.record.endedAtMs = this.#clock.now();
    if (end?.code === 'channel-busy') this.#hands.close(link, end);
  }

  closed(link: L): void {
    if (this.#established === link) this.#established = null;
    this.#links.delete(link);
    this.#tellListening();
  }

  #tellListening(): void {
    if (this.record.state !== 'listening' || this.#links.size > 0) return;
    const event = makeEvent('channel-listening', `waiting for the peer on ${this.#description}`, {});
    this.#hands.show({ state: 'waiting', event });
  }

  /** Whether an exclusive channel keeps the peer of another link, and refuses this one. */
  isTaken(newcomer: L, instance: string): boolean {
    const { isExclusive, endsSilent } = this.#options;
    if (!isExclusive || this.#established === null || this.#established === newcomer) return false;
    // The same process: it has noticed before this side that its link is lost.
    if (instance !== '' && instance === this.record.peerInstance) return false;
    const { silentMs } = this.#hands.observe(this.#established);
    if (silentMs === null) return this.#clock.now() - this.record.endedAtMs < RESERVED_MS;
    return endsSilent || silentMs < RESERVED_MS;
  }
}

/**
 * Chooses the connection to drop from `waiting`, which is not empty: one of the machine or user with the most connections,
 * counting the newcomer; there preferably one that has not answered; and among these a random one, so that a program that
 * opens connections in a loop cannot predict it. `random` returns numbers from 0 to below 1.
 */
export function chooseCrowded<T extends Pick<Connection, 'origin' | 'isAnswered'>>(
  waiting: readonly T[],
  newcomerOrigin: string | null,
  random: () => number,
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

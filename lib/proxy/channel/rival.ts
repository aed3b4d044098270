/** Another process of this machine that has the same channel: who it is, as far as can be found out, and when it leaves. */
import type { ChannelAddress } from '../../channel/address/address.js';
import type { VproxyError } from '../../errors.js';
import type { Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';

/** Another process that has a channel. */
export interface Rival {
  readonly pid: number;
  /** Its `--name`, or its program; foreign text. */
  readonly name: string;
  /** Resolves with whether it has released the channel. Never rejects. */
  hasLeft(): Promise<boolean>;
}

/** What is known about the channel that another process has. */
export interface RivalQuery {
  readonly channel: ChannelAddress;
  /** The device that was busy; null if none. */
  readonly device: string | null;
}

/** Looks for a process of this machine that has a session on the same channel, or its device open; null if none is found. */
export type FindRival = (query: RivalQuery) => Promise<Rival | null>;

/** Minimum delay after a search without result, in milliseconds: a search may look at every process. */
const SEARCH_MS = 10_000;

/** The rival of one channel; searched for only when a link could not be opened, ended early, or is silent. */
export class RivalWatch {
  readonly #channel: ChannelAddress;
  readonly #find: FindRival;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  #known: Rival | null = null;
  #foundNobodyAtMs = Number.NEGATIVE_INFINITY;

  /** `signal` is aborted when answers are no longer needed. */
  constructor(channel: ChannelAddress, find: FindRival, clock: Clock, signal: AbortSignal) {
    this.#channel = channel;
    this.#find = find;
    this.#clock = clock;
    this.#signal = signal;
  }

  /** The rival found by the last search, or null. */
  get known(): Rival | null {
    return this.#known;
  }

  /** Finds the rival, where `reason` (null: silence) may be caused by one. Never rejects. */
  async look(reason: VproxyError | null): Promise<Rival | null> {
    const known = this.#known;
    if (known !== null && !(await this.hasLeft(known))) return known;
    this.#known = null;
    if (this.#signal.aborted) return null;
    // Displacement proves that there is a rival, even if a search has not seen it yet.
    const isCertain = reason?.code === 'channel-displaced';
    if (!isCertain && this.#clock.now() - this.#foundNobodyAtMs < SEARCH_MS) return null;
    const query = { channel: this.#channel, device: deviceOf(reason) };
    this.#known = await this.#unlessOver(this.#find(query), null).catch(() => null);
    if (this.#known === null) this.#foundNobodyAtMs = this.#clock.now();
    return this.#known;
  }

  /** Resolves with whether a rival has released the channel. Never rejects. */
  hasLeft(rival: Rival): Promise<boolean> {
    return this.#unlessOver(rival.hasLeft(), true);
  }

  /** Forgets the rival, as this side has had the channel since. */
  reset(): void {
    this.#known = null;
    this.#foundNobodyAtMs = Number.NEGATIVE_INFINITY;
  }

  /** Resolves with the result of `work`, or with `otherwise` as soon as the signal is aborted. */
  #unlessOver<T>(work: Promise<T>, otherwise: T): Promise<T> {
    const signal = this.#signal;
    return new Promise((resolve, reject) => {
      const giveUp = (): void => resolve(otherwise);
      if (signal.aborted) giveUp();
      signal.addEventListener('abort', giveUp);
      work.then(resolve, reject).finally(() => signal.removeEventListener('abort', giveUp));
    });
  }
}

/** `process 123 (host1)`. */
export const formatRival = ({ pid, name }: Rival): string => `process ${pid} (${escapeText(name, 80)})`;

/** The path that the system reported as busy. */
function deviceOf(reason: VproxyError | null): string | null {
  const cause = reason?.code === 'channel-busy' ? reason.cause : null;
  return cause instanceof Error && 'path' in cause && typeof cause.path === 'string' ? cause.path : null;
}

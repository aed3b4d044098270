/** Another process of this machine that has the same channel: who that is, as far as the maker of the proxy can find out, and for how long it has it. */
import type { ChannelAddress } from '../channel/address/address.js';
import type { VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';

/** Another process that has a channel. */
export interface Rival {
  readonly pid: number;
  /** What it goes by: its `--name`, or its program; foreign text. */
  readonly name: string;
  /** Whether it has the channel no longer. Never rejects. */
  hasLeft(): Promise<boolean>;
}

/** What is known of the channel that another process has. */
export interface RivalQuery {
  readonly channel: ChannelAddress;
  /** The device that could not be opened because somebody else has it; null where there is none. */
  readonly device: string | null;
}

/** Looks for a process of this machine that has a session on the same channel, or has its device open; null where none is seen. */
export type FindRival = (query: RivalQuery) => Promise<Rival | null>;

/** After a search that found nobody, the next one is at least so much later, in milliseconds: it may look at every process. */
const SEARCH_MS = 10_000;

/** The rival of one channel: looked for only when a link could not be opened, has ended early, or hears nothing. */
export class RivalWatch {
  readonly #channel: ChannelAddress;
  readonly #find: FindRival;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  #known: Rival | null = null;
  #foundNobodyAtMs = Number.NEGATIVE_INFINITY;

  /** `signal` is aborted when nobody waits for an answer any more. */
  constructor(channel: ChannelAddress, find: FindRival, clock: Clock, signal: AbortSignal) {
    this.#channel = channel;
    this.#find = find;
    this.#clock = clock;
    this.#signal = signal;
  }

  /** Who had the channel when it was looked for last; null where nobody was seen. */
  get known(): Rival | null {
    return this.#known;
  }

  /** Who has the channel, where `reason` (null: silence) may be that somebody has it. Never rejects. */
  async look(reason: VproxyError | null): Promise<Rival | null> {
    const known = this.#known;
    if (known !== null && !(await this.hasLeft(known))) return known;
    this.#known = null;
    if (this.#signal.aborted) return null;
    // That another one has it is certain then, and it may just not have been seen yet.
    const isCertain = reason?.code === 'channel-displaced';
    if (!isCertain && this.#clock.now() - this.#foundNobodyAtMs < SEARCH_MS) return null;
    const query = { channel: this.#channel, device: deviceOf(reason) };
    this.#known = await this.#unlessOver(this.#find(query), null).catch(() => null);
    if (this.#known === null) this.#foundNobodyAtMs = this.#clock.now();
    return this.#known;
  }

  /** Whether a rival has the channel no longer. Never rejects. */
  hasLeft(rival: Rival): Promise<boolean> {
    return this.#unlessOver(rival.hasLeft(), true);
  }

  /** The channel was this side's meanwhile: who had it before is not known to have it. */
  reset(): void {
    this.#known = null;
    this.#foundNobodyAtMs = Number.NEGATIVE_INFINITY;
  }

  /** What `work` gives, or `otherwise` as soon as nobody waits for it. */
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

/** The path that the system said is busy. */
function deviceOf(reason: VproxyError | null): string | null {
  const cause = reason?.code === 'channel-busy' ? reason.cause : null;
  return cause instanceof Error && 'path' in cause && typeof cause.path === 'string' ? cause.path : null;
}

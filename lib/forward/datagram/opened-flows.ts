/** The flows that the outgoing forwards of a channel have opened together: how many there may be, and how long each is idle. */
import type { Session } from '../../session/session.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { type Aged, AgeList } from '../../util/members/age-list.js';
import type { DatagramFlow } from './datagram-flow.js';

/** A flow over which nothing has passed for this time is ended. */
export const IDLE_MS = 60_000;

/** At most this number is open for each channel, and no more than half of the streams that the peer takes. */
export const MAX_FLOWS = 1024;

/** Of those that were ended so many may wait for the peer to end them, too; more are reset. */
const MAX_ENDING = 64;

const NOT_ENDED = 'the peer did not close its side of the flow';

/** A flow in the table, from `add` to `remove`. */
export interface OpenedFlow extends Aged {
  readonly flow: DatagramFlow;
  /** When something passed last; of one that was ended, when that was. */
  usedAtMs: number;
  isEnding: boolean;
}

export class OpenedFlows {
  readonly #clock: Clock;
  /** By when each was used last. */
  readonly #used = new AgeList<OpenedFlow>();
  readonly #ending = new AgeList<OpenedFlow>();
  #cancelLook: CancelTimer | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Those that are not over. */
  get size(): number {
    return this.#used.size + this.#ending.size;
  }

  /** Ends the idlest, where there is no room for one more that is about to be opened in this session. */
  makeRoom({ agreement: { peer } }: Session): void {
    const most = Math.max(1, Math.min(MAX_FLOWS, Math.floor(peer.limits.streams / 2)));
    while (this.#used.size >= most && this.#used.oldest !== null) this.#end(this.#used.oldest);
  }

  add(flow: DatagramFlow): OpenedFlow {
    const opened: OpenedFlow = { flow, older: null, younger: null, usedAtMs: this.#clock.now(), isEnding: false };
    this.#used.add(opened);
    this.#cancelLook ??= this.#lookIn(IDLE_MS);
    return opened;
  }

  /** Something has passed over a flow. */
  touch(opened: OpenedFlow): void {
    if (opened.isEnding) return;
    opened.usedAtMs = this.#clock.now();
    this.#used.touch(opened);
  }

  /** A flow is over. */
  remove(opened: OpenedFlow): void {
    (opened.isEnding ? this.#ending : this.#used).remove(opened);
    if (this.size > 0) return;
    this.#cancelLook?.();
    this.#cancelLook = null;
  }

  #end(opened: OpenedFlow): void {
    this.#used.remove(opened);
    opened.isEnding = true;
    opened.usedAtMs = this.#clock.now();
    this.#ending.add(opened);
    opened.flow.end();
    const { oldest } = this.#ending;
    if (this.#ending.size > MAX_ENDING) oldest?.flow.reset('cancelled', NOT_ENDED);
  }

  #lookIn(delayMs: number): CancelTimer {
    return this.#clock.schedule(delayMs, () => this.#look());
  }

  #look(): void {
    this.#cancelLook = null;
    const idleSinceMs = this.#clock.now() - IDLE_MS;
    for (const { flow } of idleOf(this.#ending, idleSinceMs)) flow.reset('stalled', NOT_ENDED);
    for (const opened of idleOf(this.#used, idleSinceMs)) this.#end(opened);
    const times = [this.#used, this.#ending].flatMap(({ oldest }) => (oldest === null ? [] : [oldest.usedAtMs]));
    if (times.length > 0) this.#cancelLook ??= this.#lookIn(Math.max(1, Math.min(...times) - idleSinceMs));
  }
}

/** Those that were not used since then; each has to be taken out of the list before the next one is asked for. */
function* idleOf(list: AgeList<OpenedFlow>, sinceMs: number): Generator<OpenedFlow> {
  for (let { oldest } = list; oldest !== null && oldest.usedAtMs <= sinceMs; oldest = list.oldest) yield oldest;
}

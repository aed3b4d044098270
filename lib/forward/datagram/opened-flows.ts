/** All flows opened by the outgoing forwards of a channel: limits their number and ends idle ones. */
import type { Session } from '../../session/session.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { type Aged, AgeList } from '../../util/members/age-list.js';
import type { DatagramFlow } from './datagram-flow.js';

/** An idle flow is ended after this time. */
export const IDLE_MS = 60_000;

/** Limit on open flows per channel; in addition, no more than half of the streams that the peer accepts. */
export const MAX_FLOWS = 1024;

/** Limit on ended flows that wait for the peer to end them, too; beyond it they are reset. */
const MAX_ENDING = 64;

const NOT_ENDED = 'the peer did not close its side of the flow';

/** A flow in the table, from `add` to `remove`. */
export interface OpenedFlow extends Aged {
  readonly flow: DatagramFlow;
  /** When the last message passed; for an ended flow, when it was ended. */
  usedAtMs: number;
  isEnding: boolean;
}

export class OpenedFlows {
  readonly #clock: Clock;
  /** Ordered by last use. */
  readonly #used = new AgeList<OpenedFlow>();
  readonly #ending = new AgeList<OpenedFlow>();
  #cancelLook: CancelTimer | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Flows that have not ended. */
  get size(): number {
    return this.#used.size + this.#ending.size;
  }

  /** Ends the flows idle for longest until there is room to open another one in this session. */
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

  /** A message has passed over a flow. */
  touch(opened: OpenedFlow): void {
    if (opened.isEnding) return;
    opened.usedAtMs = this.#clock.now();
    this.#used.touch(opened);
  }

  /** A flow has ended. */
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

/** Flows unused since `sinceMs`; remove each from the list before asking for the next. */
function* idleOf(list: AgeList<OpenedFlow>, sinceMs: number): Generator<OpenedFlow> {
  for (let { oldest } = list; oldest !== null && oldest.usedAtMs <= sinceMs; oldest = list.oldest) yield oldest;
}

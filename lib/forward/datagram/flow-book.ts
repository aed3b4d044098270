/** The flows of a forward: what they carried in total, with one log line per interval for dropped messages. */
import type { MessageCounts } from '../../session/stream.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { Roster } from '../../util/members/roster.js';
import type { DatagramFlow } from './datagram-flow.js';

/** Drops within this time are reported in one log line. */
const REPORT_MS = 10_000;

interface FlowBookOptions {
  readonly clock: Clock;
  /** Reports how many messages were dropped since the last call. Default: no callback. */
  readonly onDropped?: ((counts: DropCounts) => void) | undefined;
}

/** The number of dropped messages for the peer, and from it. */
export interface DropCounts extends Pick<MessageCounts, 'sendDropped' | 'receiveDropped'> {
  /** How many of those for the peer the system dropped before they were read. */
  readonly systemDropped: number;
}

export class FlowBook implements MessageCounts {
  readonly #options: FlowBookOptions;
  readonly #open = new Roster<DatagramFlow>();
  /** What ended flows carried, and messages dropped without a flow. */
  readonly #past = { sent: 0, sendDropped: 0, received: 0, receiveDropped: 0 };
  #systemDropped = 0;
  #reported: DropCounts = { sendDropped: 0, receiveDropped: 0, systemDropped: 0 };
  #cancelReport: CancelTimer | null = null;

  constructor(options: FlowBookOptions) {
    this.#options = options;
  }

  get openCount(): number {
    return this.#open.size;
  }

  get sent(): number {
    return this.#sum('sent');
  }

  get sendDropped(): number {
    return this.#sum('sendDropped');
  }

  get received(): number {
    return this.#sum('received');
  }

  get receiveDropped(): number {
    return this.#sum('receiveDropped');
  }

  list(): DatagramFlow[] {
    return this.#open.list();
  }

  /** Adds an open flow; returns its seat for `remove`. */
  add(flow: DatagramFlow): number {
    return this.#open.add(flow);
  }

  remove(seat: number, flow: DatagramFlow): void {
    this.#open.remove(seat);
    const past = this.#past;
    past.sent += flow.sent;
    past.sendDropped += flow.sendDropped;
    past.received += flow.received;
    past.receiveDropped += flow.receiveDropped;
  }

  /** A message for the peer was dropped for lack of a flow. */
  drop(): void {
    this.#past.sendDropped += 1;
    this.handleDropped();
  }

  /** Messages for the peer were dropped by the system. */
  dropBySystem(count: number): void {
    this.#past.sendDropped += count;
    this.#systemDropped += count;
    this.handleDropped();
  }

  /** A flow has dropped messages. */
  handleDropped(): void {
    this.#cancelReport ??= this.#options.clock.schedule(REPORT_MS, () => this.#report());
  }

  /** Resets the open flows, and reports drops that are not reported yet. */
  stop(): void {
    for (const flow of this.#open.list()) flow.reset('cancelled', 'the forward was stopped');
    if (this.#cancelReport === null) return;
    this.#cancelReport();
    this.#report();
  }

  #report(): void {
    this.#cancelReport = null;
    const { sendDropped, receiveDropped } = this;
    const systemDropped = this.#systemDropped;
    const before = this.#reported;
    this.#reported = { sendDropped, receiveDropped, systemDropped };
    this.#options.onDropped?.({
      sendDropped: sendDropped - before.sendDropped,
      receiveDropped: receiveDropped - before.receiveDropped,
      systemDropped: systemDropped - before.systemDropped,
    });
  }

  #sum(key: keyof MessageCounts): number {
    return this.#open.list().reduce((sum, flow) => sum + flow[key], this.#past[key]);
  }
}

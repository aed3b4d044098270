/** The target of flows of datagrams: a socket for each flow, which exchanges messages with one address only. */
import { systemCode } from '../../errors.js';
import type { SessionStream } from '../../session/stream.js';
import type { DatagramConnection, DatagramConnectionEvents } from '../../system/datagrams/datagrams.js';
import { shortageAt } from '../../system/descriptors.js';
import { meaningOf } from '../../util/errno.js';
import { describeError } from '../../util/escape.js';
import { refuseBeyond, type Target, type TargetContext } from '../endpoint-kind.js';
import { DatagramFlow } from './datagram-flow.js';
import { FlowBook } from './flow-book.js';
import { MessageQueue } from './message-queue.js';

/** Makes the socket of a flow. Rejects with an error of the system. */
type Connect = (events: DatagramConnectionEvents) => Promise<DatagramConnection>;

/** A name that is not resolved in this time is given up: before the opener gives up the flow. */
const RESOLVE_MS = 10_000;

/** At most once in this time it is said that nobody is there. */
const FAILED_EVERY_MS = 60_000;

export class DatagramTarget implements Target {
  readonly takes = 'datagrams';
  readonly messages: FlowBook;
  readonly #connect: Connect;
  readonly #context: TargetContext;
  /** When it was said last that nobody is there. */
  #failedAtMs = Number.NEGATIVE_INFINITY;

  constructor(connect: Connect, context: TargetContext) {
    this.#connect = connect;
    this.#context = context;
    this.messages = new FlowBook({ clock: context.clock, onDropped: (counts) => context.log.dropped(counts) });
  }

  get openCount(): number {
    return this.messages.openCount;
  }

  /** Accepts a flow when it has its socket: a target that nobody listens on shows later, if at all. */
  serve(stream: SessionStream): void {
    const { log, maxStreams, onClosed, onLeft } = this.#context;
    if (refuseBeyond(stream, this.openCount, maxStreams)) return;
    /** What came before the socket is there. */
    const early = new MessageQueue(stream.datagramBudget);
    let socket: DatagramConnection | null = null;
    const flow = DatagramFlow.attach(stream, {
      onMessage: (message) => {
        if (socket !== null) socket.send(message, onLost);
        else for (let dropped = early.push(message); dropped > 0; dropped -= 1) onLost();
      },
      onDropped: () => this.messages.handleDropped(),
      onClosed: (reason) => {
        cancelTimeout();
        socket?.close();
        for (let waiting = early.clear(); waiting > 0; waiting -= 1) onLost();
        this.messages.remove(seat, flow);
        onClosed(stream, reason);
        onLeft?.();
      },
    });
    const onLost = (): void => flow.markUndelivered();
    const seat = this.messages.add(flow);
    const cancelTimeout = this.#context.clock.schedule(RESOLVE_MS, () =>
      this.#refuse(flow, 'connect-timeout', `timed out after ${RESOLVE_MS / 1000} s`),
    );
    this.#connect({
      onMessage: (message) => flow.send(message),
      onError: (error) => this.#failed(flow, error),
    }).then(
      (connected) => {
        cancelTimeout();
        if (stream.isOver) {
          connected.close();
          return;
        }
        const shortage = shortageAt(connected.descriptor);
        if (shortage !== null) {
          connected.close();
          this.#refuse(flow, 'connect-failed', shortage);
          return;
        }
        socket = connected;
        for (let message = early.shift(); message !== null; message = early.shift()) socket.send(message, onLost);
        flow.accept();
        log.opened(stream);
      },
      (error: unknown) =>
        this.#refuse(flow, meaningOf(systemCode(error)).connect ?? 'connect-failed', describeError(error)),
    );
  }

  #refuse(flow: DatagramFlow, code: string, message: string): void {
    flow.reset(code, `${this.#context.name}: ${message}`);
  }

  /** A message did not arrive, as the system says. The flow goes on, as somebody may listen later. */
  #failed(flow: DatagramFlow, error: Error): void {
    const { clock, log, name } = this.#context;
    flow.markUndelivered();
    const nowMs = clock.now();
    if (nowMs - this.#failedAtMs < FAILED_EVERY_MS) return;
    this.#failedAtMs = nowMs;
    log.targetFailed(`${name} does not accept datagrams: ${describeError(error)}; dropping them`, flow.stream);
  }

  stop(): void {
    this.messages.stop();
  }
}

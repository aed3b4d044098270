/** The target of datagram flows: a socket for each flow, which exchanges messages with one address only. */
import { systemCode } from '../../errors.js';
import type { SessionStream } from '../../session/stream.js';
import type { DatagramConnection, DatagramConnectionEvents } from '../../system/datagrams/datagrams.js';
import { shortageAt } from '../../system/descriptors.js';
import { meaningOf } from '../../system-errors.js';
import { describeError } from '../../util/escape.js';
import { refuseBeyond, type Target, type TargetContext } from '../endpoint-kind.js';
import { DatagramFlow } from './datagram-flow.js';
import { FlowBook } from './flow-book.js';
import { MessageQueue } from './message-queue.js';

/** Creates the socket of a flow. Rejects with a system error. */
type Connect = (events: DatagramConnectionEvents) => Promise<DatagramConnection>;

/** Time limit for resolving a name; shorter than the opener's time limit for the flow. */
const RESOLVE_MS = 10_000;

/** Failed deliveries are logged at most once in this time. */
const FAILED_EVERY_MS = 60_000;

export class DatagramTarget implements Target {
  readonly takes = 'datagrams';
  readonly messages: FlowBook;
  readonly #connect: Connect;
  readonly #context: TargetContext;
  /** When a failed delivery was last logged. */
  #failedAtMs = Number.NEGATIVE_INFINITY;

  constructor(connect: Connect, context: TargetContext) {
    this.#connect = connect;
    this.#context = context;
    this.messages = new FlowBook({ clock: context.clock, onDropped: (counts) => context.log.dropped(counts) });
  }

  get openCount(): number {
    return this.messages.openCount;
  }

  /** Accepts a flow once it has its socket: a target without a listener shows later, if at all. */
  serve(stream: SessionStream): void {
    const { log, maxStreams, onClosed, onLeft } = this.#context;
    if (refuseBeyond(stream, this.openCount, maxStreams)) return;
    /** Messages that come before the socket is ready. */
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
      onDropped: (count) => this.messages.dropBySystem(count),
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

  /** The system reported a message as undelivered. The flow continues, since a listener may appear later. */
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

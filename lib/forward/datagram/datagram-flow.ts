/** A datagram flow: messages over a stream in both directions, dropped rather than waited for (R-DGRAM-3 to R-DGRAM-6). */

import { MAX_DATAGRAM_BYTES, MESSAGE_HEADER_BYTES, MessageReader } from '../../codec/datagram-messages.js';
import { TRAILER_BYTES } from '../../codec/header.js';
import { HEADER_BYTES } from '../../codec/limits.js';
import { toVproxyError, type VproxyError } from '../../errors.js';
import type { LocalEnd } from '../../session/local-end.js';
import { SENT } from '../../session/send-buffer.js';
import type { Session } from '../../session/session.js';
import type { MessageCounts, SessionStream } from '../../session/stream.js';
import type { Budget } from '../../util/bounds.js';
import { MessageQueue } from './message-queue.js';

/** The callbacks of a flow. None of them may throw. */
export interface FlowEvents {
  /** A message from the peer, in a buffer of its own. */
  onMessage(message: Buffer): void;
  /** The flow has ended; called once. Null if both sides ended it in order. */
  onClosed(reason: VproxyError | null): void;
  /** Messages were dropped in either direction; the flow's counts include them. */
  onDropped(): void;
  /** The peer has accepted a flow that this side opened. Default: no callback. */
  onAccepted?(): void;
}

/**
 * Sends and receives messages of 0 to 65,507 bytes over a stream. A message is passed to the stream only after the stream has
 * sent all earlier ones; until then the newest messages wait, up to 1 MiB. All flows of a session share another limit.
 */
export class DatagramFlow implements LocalEnd, MessageCounts {
  readonly #events: FlowEvents;
  readonly #budget: Budget;
  readonly #queue: MessageQueue;
  readonly #reader: MessageReader;
  stream!: SessionStream;
  /** The budget's share of a message that the stream still has to send; null: none. */
  #inStreamBytes: number | null = null;
  #isEnding = false;
  #hasPeerEnded = false;
  #isClosed = false;
  sent = 0;
  sendDropped = 0;
  received = 0;
  receiveDropped = 0;

  private constructor(events: FlowEvents, budget: Budget) {
    this.#events = events;
    this.#budget = budget;
    this.#queue = new MessageQueue(budget);
    this.#reader = new MessageReader({
      budget,
      onMessage: (message) => {
        this.received += 1;
        events.onMessage(message);
      },
      onSkipped: (count) => {
        this.receiveDropped += count;
        events.onDropped();
      },
    });
  }

  /**
   * Opens a flow to a service of the peer. It takes messages at once, and may already have ended on return. Throws like
   * `Session.openFlow`.
   */
  static open(session: Session, service: string, from: string | null, events: FlowEvents): DatagramFlow {
    const flow = new DatagramFlow(events, session.streams.datagramBudget);
    flow.#join(session.openFlow(service, from, flow));
    return flow;
  }

  /** Takes a flow that the peer is opening; call `accept` or `reset` afterwards. Messages may arrive before that. */
  static attach(stream: SessionStream, events: FlowEvents): DatagramFlow {
    const flow = new DatagramFlow(events, stream.datagramBudget);
    flow.#join(stream);
    stream.attach(flow);
    return flow;
  }

  #join(stream: SessionStream): void {
    this.stream = stream;
    stream.messages = this;
  }

  /** Accepts a flow that the peer opened. */
  accept(): void {
    this.stream.accept();
    if (this.#hasPeerEnded) this.end();
  }

  /** Whether it takes no more messages: it has ended, or this side is ending it. */
  get isEnded(): boolean {
    return this.#isEnding || this.#isClosed;
  }

  /** Whether this side ended it first. */
  get wasGivenUp(): boolean {
    return this.#isEnding && !this.#hasPeerEnded;
  }

  /** Sends a copy of the message, or drops it or an older one. */
  send(message: Uint8Array): void {
    if (this.isEnded || message.length > MAX_DATAGRAM_BYTES) {
      this.#countDropped(1);
      return;
    }
    this.#countDropped(this.#queue.push(frameOf(message)));
    this.#sendOn();
  }

  /** A message passed to `onMessage` could not be delivered: counts it as dropped. */
  markUndelivered(): void {
    this.received -= 1;
    this.receiveDropped += 1;
    this.#events.onDropped();
  }

  /** Ends the flow and drops what waits: in order if that is possible at once, else with a reset. */
  end(): void {
    if (this.isEnded) return;
    this.#isEnding = true;
    this.#dropQueue();
    if (!this.stream.isAnswered || !this.stream.finish()) this.reset('cancelled', 'flow cancelled');
  }

  /** Ends the flow at once, without waiting for the peer. */
  reset(code: string, message: string): void {
    this.stream.reset(code, message);
  }

  // ---- for the stream -------------------------------------------------------------------------------------------

  handleAccept(): void {
    this.#events.onAccepted?.();
  }

  handleData(bytes: Buffer): boolean {
    try {
      this.#reader.push(bytes);
    } catch (error) {
      const { code, message } = toVproxyError(error);
      this.reset(code, message);
    }
    // Release at once: a window may be smaller than a message.
    this.stream.release(bytes.length);
    return false;
  }

  handleFin(): void {
    this.#hasPeerEnded = true;
    if (this.#reader.isMidMessage) this.reset('protocol-error', 'the flow ended in the middle of a message');
    // Before the accept, the owner of the flow may still have to deliver what came.
    else if (this.stream.isAnswered) this.end();
  }

  handleStop(): void {
    // A flow's stream is reset instead.
  }

  handleSent(): void {
    this.#releaseSent();
    this.#sendOn();
  }

  handleEnd(reason: VproxyError | null): void {
    this.#isClosed = true;
    if (this.#inStreamBytes !== null) {
      this.sent -= 1;
      this.#countDropped(1);
    }
    this.#releaseSent();
    this.#dropQueue();
    this.#reader.close();
    this.#events.onClosed(reason);
  }

  // ---- inside ---------------------------------------------------------------------------------------------------

  /** Passes messages to the stream until one has to wait. */
  #sendOn(): void {
    while (!this.isEnded && !this.stream.isWaiting) {
      const frame = this.#queue.shift();
      if (frame === null) return;
      this.sent += 1;
      const sent = this.stream.send(frame, HEADER_BYTES, frame.length - TRAILER_BYTES, true);
      if (sent !== SENT.WAITING) continue;
      // Usually succeeds: the queue has just released the same amount.
      this.#inStreamBytes = this.#budget.reserve(frame.length) ? frame.length : 0;
    }
  }

  #releaseSent(): void {
    this.#budget.release(this.#inStreamBytes ?? 0);
    this.#inStreamBytes = null;
  }

  #dropQueue(): void {
    this.#countDropped(this.#queue.clear());
  }

  #countDropped(count: number): void {
    if (count === 0) return;
    this.sendDropped += count;
    this.#events.onDropped();
  }
}

/** A message with its length, in a buffer with room for a frame header in front and a trailer behind. */
function frameOf(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafeSlow(HEADER_BYTES + MESSAGE_HEADER_BYTES + message.length + TRAILER_BYTES);
  frame.writeUInt16BE(message.length, HEADER_BYTES);
  frame.set(message, HEADER_BYTES + MESSAGE_HEADER_BYTES);
  return frame;
}

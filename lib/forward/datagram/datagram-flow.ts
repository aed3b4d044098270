/** A flow of datagrams: messages over a stream, in both directions, of which some are dropped rather than waited for (R-DGRAM-3 to R-DGRAM-6). */

import {
  MAX_DATAGRAM_BYTES,
  MESSAGE_HEADER_BYTES,
  MessageReader,
  writeMessageLength,
} from '../../codec/datagram-messages.js';
import { TRAILER_BYTES } from '../../codec/header.js';
import { HEADER_BYTES } from '../../codec/limits.js';
import { toVproxyError, type VproxyError } from '../../errors.js';
import type { LocalEnd } from '../../session/local-end.js';
import { SENT } from '../../session/send-buffer.js';
import type { Session } from '../../session/session.js';
import type { MessageCounts, SessionStream } from '../../session/stream.js';
import type { Budget } from '../../util/bounds.js';
import { MessageQueue } from './message-queue.js';

/** What a flow tells whoever has it. None of these may throw. */
export interface FlowEvents {
  /** A message came from the peer, in a buffer of its own. */
  onMessage(message: Buffer): void;
  /** It is over, told once: null when both sides ended it in order, else why. */
  onClosed(reason: VproxyError | null): void;
  /** Messages were dropped, either way: the counts of the flow have them. */
  onDropped(): void;
  /** The peer has accepted it; told only to who opened it. Default: nobody is told. */
  onAccepted?(): void;
}

/**
 * Sends and receives messages of 0 to 65,507 bytes over a stream. A message is given to the stream only when that has sent all
 * before it; until then the newest 64 messages, of up to 256 KiB together, wait. All flows of a session share a further bound.
 */
export class DatagramFlow implements LocalEnd, MessageCounts {
  readonly #events: FlowEvents;
  readonly #budget: Budget;
  readonly #queue: MessageQueue;
  readonly #reader: MessageReader;
  stream!: SessionStream;
  /** Whether the stream has not sent all of a message, and what that takes of the budget. */
  #isInStream = false;
  #inStreamBytes = 0;
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
   * Opens a flow to a service of the peer. It takes messages at once, and may be over at once. Throws as `Session.openFlow`
   * does.
   */
  static open(session: Session, service: string, from: string | null, events: FlowEvents): DatagramFlow {
    const flow = new DatagramFlow(events, session.streams.datagramBudget);
    flow.#join(session.openFlow(service, from, flow));
    return flow;
  }

  /** Takes a flow that the peer opened, while it is announced; `accept` or `reset` is to follow. Messages may come before. */
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

  /** Whether it takes no more messages: it is over, or was ended by this side. */
  get isEnded(): boolean {
    return this.#isEnding || this.#isClosed;
  }

  /** Whether this side was the first to end it. */
  get wasGivenUp(): boolean {
    return this.#isEnding && !this.#hasPeerEnded;
  }

  /** Sends a message, or drops it, or an older one. It is copied. */
  send(message: Uint8Array): void {
    if (this.isEnded || message.length > MAX_DATAGRAM_BYTES) {
      this.#countDropped(1);
      return;
    }
    this.#countDropped(this.#queue.push(frameOf(message)));
    this.#sendOn();
  }

  /** A message that `onMessage` got could not be delivered: it counts as dropped. */
  markUndelivered(): void {
    this.received -= 1;
    this.receiveDropped += 1;
    this.#events.onDropped();
  }

  /** Ends it: what waits is dropped. In order where that can be done at once, else with a reset. */
  end(): void {
    if (this.isEnded) return;
    this.#isEnding = true;
    this.#dropQueue();
    if (!this.stream.isAnswered || !this.stream.finish()) this.reset('cancelled', 'flow cancelled');
  }

  /** Ends it now, without waiting for the peer. */
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
    // Nothing is held back: a window may be smaller than a message.
    this.stream.release(bytes.length);
    return false;
  }

  handleFin(): void {
    this.#hasPeerEnded = true;
    if (this.#reader.isMidMessage) this.reset('protocol-error', 'the flow ended in the middle of a message');
    // Before the answer whoever has the flow may only be about to deliver what came.
    else if (this.stream.isAnswered) this.end();
  }

  handleStop(): void {
    // The stream of a flow is reset instead.
  }

  handleSent(): void {
    this.#releaseSent();
    this.#sendOn();
  }

  handleEnd(reason: VproxyError | null): void {
    this.#isClosed = true;
    if (this.#isInStream) {
      this.sent -= 1;
      this.#countDropped(1);
    }
    this.#releaseSent();
    this.#dropQueue();
    this.#reader.close();
    this.#events.onClosed(reason);
  }

  // ---- inside ---------------------------------------------------------------------------------------------------

  /** Gives the stream what it sends at once, and one message more. */
  #sendOn(): void {
    while (!this.isEnded && !this.stream.isWaiting) {
      const frame = this.#queue.shift();
      if (frame === null) return;
      this.sent += 1;
      const sent = this.stream.send(frame, HEADER_BYTES, frame.length - TRAILER_BYTES, true);
      if (sent !== SENT.WAITING) continue;
      this.#isInStream = true;
      // As a rule there is the room that it had in the queue.
      this.#inStreamBytes = this.#budget.reserve(frame.length) ? frame.length : 0;
    }
  }

  #releaseSent(): void {
    this.#budget.release(this.#inStreamBytes);
    this.#inStreamBytes = 0;
    this.#isInStream = false;
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

/** A message with its length, in a buffer with room for the header of a frame before it and for the trailer behind it. */
function frameOf(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafeSlow(HEADER_BYTES + MESSAGE_HEADER_BYTES + message.length + TRAILER_BYTES);
  writeMessageLength(frame, HEADER_BYTES, message.length);
  frame.set(message, HEADER_BYTES + MESSAGE_HEADER_BYTES);
  return frame;
}

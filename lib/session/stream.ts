/** One stream of a session: its states, its credit in both directions, and what waits to be sent (R-STREAM-2 to R-STREAM-11, R-FLOW-2). */

import type { FrameWriter } from '../codec/frame-writer.js';
import { FRAME_TYPE } from '../codec/header.js';
import { encodeOpen, encodeReason, type OpenRequest } from '../codec/payloads.js';
import { VproxyError } from '../errors.js';
import type { CancelTimer } from '../util/clock.js';
import type { ReceiveWindow } from './flow.js';
import type { LocalEnd } from './local-end.js';
import { PacedEnd, type StreamPace } from './pacing.js';
import type { Creditor, Ready } from './scheduler.js';
import { ReceivingHalf, SENT, SendingHalf, type Sent } from './stream-halves.js';

export { SENT, type Sent };

/** What may be sent before the peer accepted the stream, in bytes (R-STREAM-4). */
const FIRST_FLIGHT_BYTES = 16_384;

/** Both directions of a stream. Its owner is a {@link LocalEnd}. */
export class SessionStream implements Creditor, Ready {
  readonly service: string;
  /** Where the opener's local socket came from: the peer's word on incoming streams; null if it said nothing. */
  readonly from: string | null;
  /** Whether the peer opened it. */
  readonly isIncoming: boolean;
  /** When it was made, by the session's clock. */
  readonly openedAtMs: number;
  /** A name for whoever has it on this side, such as the id of a forward; for lists of streams only. */
  owner: string | null = null;
  /** Whether its local end is not done with, which may outlive it as a process that is being ended does. Whoever serves it says so. */
  isServed: () => boolean = () => false;

  nextReady: this | null = null;
  isReady = false;
  isCreditDue = false;
  /** DATA frames of less than 1,024 bytes that went out last, one after the other: the sender counts them (R-FLOW-8). */
  smallFrames = 0;

  readonly #host: StreamHost;
  #sink: LocalEnd | null;
  #id = 0;
  #isAnswered = false;
  #isOver = false;
  #cancelTimeout: CancelTimer | null = null;

  readonly #sending: SendingHalf;
  readonly #receiving: ReceivingHalf;
  /** Whether `send` is on the call stack: its caller learns the outcome from what it returns. */
  #isInSend = false;
  #finAsked = false;
  #finSent = false;
  #wasStopped = false;
  /** The STOP that is held back with the OPEN. */
  #stopPayload: Buffer | null = null;
  #pace: StreamPace | null = null;
  /** What stands before the sink where there is a pace. */
  #paced: PacedEnd | null = null;

  constructor(
    host: StreamHost,
    request: OpenRequest,
    options: {
      readonly sink: LocalEnd | null;
      readonly isIncoming: boolean;
      readonly openedAtMs: number;
      readonly window: ReceiveWindow;
      readonly creditBytes: number;
    },
  ) {
    this.#host = host;
    this.service = request.service;
    this.from = request.from;
    this.isIncoming = options.isIncoming;
    this.openedAtMs = options.openedAtMs;
    this.#sink = options.sink;
    this.#receiving = new ReceivingHalf(options.window);
    this.#sending = new SendingHalf(options.creditBytes);
  }

  /** 0 while the opening is held back. */
  get id(): number {
    return this.#id;
  }

  get isAnswered(): boolean {
    return this.#isAnswered;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** DATA sent so far, in bytes. */
  get sentBytes(): number {
    return this.#sending.sentBytes;
  }

  /** DATA received so far, in bytes. */
  get receivedBytes(): number {
    return this.#receiving.receivedBytes;
  }

  /** How much the peer may have sent in total, in bytes. */
  get grantedBytes(): number {
    return this.#receiving.grantedBytes;
  }

  /** What the peer's credit for this stream leaves to be sent, in bytes. */
  get sendCreditBytes(): number {
    return this.#sending.creditLeftBytes;
  }

  /** What the peer may send before it is given more credit, in bytes. */
  get receiveCreditBytes(): number {
    return this.grantedBytes - this.receivedBytes;
  }

  /** What came and has not left this side, in bytes. */
  get heldBytes(): number {
    return this.#receiving.heldBytes;
  }

  /** How many bytes are good to read from a local socket next: what fits one frame. */
  get frameBytes(): number {
    return this.#host.frameBytes(this.#id);
  }

  /** Bounds how fast bytes go and come, together with all that share the limits. Called before `attach`. */
  setPace(pace: StreamPace): void {
    this.#pace = pace;
  }

  // ---- for the owner of the local end -------------------------------------------------------------------------

  /** Becomes the local end of an incoming stream. It has to be done while the session announces the stream. */
  attach(sink: LocalEnd): void {
    this.#paced = this.#pace === null ? null : new PacedEnd(sink, this.#pace.receive);
    this.#sink = this.#paced ?? sink;
  }

  get isAttached(): boolean {
    return this.#sink !== null;
  }

  /** Accepts an incoming stream. */
  accept(): void {
    if (!this.isIncoming || this.#isAnswered || this.#isOver) return;
    this.#answer();
    this.#host.control(FRAME_TYPE.ACCEPT, this.#id, NO_PAYLOAD);
    this.#sendDelayed();
  }

  /** Refuses an incoming stream, which is over then. */
  refuse(code: string, message: string): void {
    if (!this.isIncoming || this.#isAnswered || this.#isOver) return;
    this.#answer();
    this.#host.control(FRAME_TYPE.REFUSE, this.#id, encodeReason({ code, message }));
    this.#finish(new VproxyError(code, message));
  }

  /**
   * Sends `buffer[start, end)`, which must not be empty, in as many frames as it takes. `hasRoom` says that the 16 bytes
   * before `start` are the session's to write headers into, and the bytes behind them once they are sent.
   */
  send(buffer: Buffer, start: number, end: number, hasRoom: boolean): Sent {
    // A peer that reads no more, or a stream that is over, swallows: the sink has been told.
    if (this.#isOver || this.#wasStopped) return SENT.FREE;
    if (this.isWaiting || this.#finAsked)
      throw new VproxyError('internal', 'send while earlier bytes wait or after finish');
    this.#sending.put(buffer, start, end, hasRoom);
    this.#isInSend = true;
    this.#offerIfSendable();
    this.#isInSend = false;
    return this.#sending.outcome;
  }

  /** Whether bytes given to `send` have not all been sent. */
  get isWaiting(): boolean {
    return this.#sending.isWaiting;
  }

  /** Whether the channel still holds a part of the buffer given to `send` last. */
  get isLent(): boolean {
    return this.#sending.isLent;
  }

  /** Ends this side's direction behind what waits. True when FIN is on its way; else `handleSent` follows. */
  finish(): boolean {
    if (this.#finAsked || this.#isOver) return true;
    this.#finAsked = true;
    this.#sendFinIfDue();
    return this.#finSent || this.#isOver;
  }

  /** Reads no more: what still arrives is dropped, and the peer is asked to end its direction. */
  stop(code: string, message: string): void {
    this.#dropPaced(null);
    if (this.#receiving.isStopped || this.#receiving.hasEnded || this.#isOver) return;
    this.#receiving.stop();
    const payload = encodeReason({ code, message });
    if (this.#id !== 0) this.#host.control(FRAME_TYPE.STOP, this.#id, payload);
    else this.#stopPayload = payload;
  }

  /** Ends both directions now and drops what waits. */
  reset(code: string, message: string): void {
    if (this.#isOver) {
      this.#dropPaced(new VproxyError(code, message));
      this.#stopDraining();
      return;
    }
    if (this.isIncoming && !this.#isAnswered) {
      this.refuse(code, message);
      return;
    }
    // Room in the channel would take what waits behind the RESET.
    this.#sending.drop();
    if (this.#id !== 0) {
      this.#host.control(FRAME_TYPE.RESET, this.#id, encodeReason({ code, message }));
      if (!this.#isAnswered) this.#retract();
    }
    this.#finish(new VproxyError(code, message));
  }

  /** Reports that so many bytes of what `handleData` gave have left this side. */
  release(bytes: number): void {
    if (this.#isOver && !this.isDraining) return;
    // A larger window would not make bytes faster that wait for the pace.
    const mayGrow = this.#paced === null || this.#paced.waitingBytes === 0;
    const isRaised = this.#receiving.release(bytes, this.#host, mayGrow);
    if (!this.#isOver) {
      if (isRaised) this.#host.raise(this);
    } else if (this.#receiving.isDrained) {
      this.#stopDraining();
    }
  }

  // ---- for the session ----------------------------------------------------------------------------------------

  /** Gives the stream its id; an outgoing one is opened with it. */
  begin(id: number): void {
    this.#id = id;
    if (this.isIncoming) return;
    this.#host.control(FRAME_TYPE.OPEN, id, encodeOpen(this));
    if (this.#stopPayload !== null) this.#host.control(FRAME_TYPE.STOP, id, this.#stopPayload);
    this.#stopPayload = null;
    this.#sendDelayed();
  }

  /** Gives the opening up, unless it is answered, when `cancel` was not called in time. */
  startDeadline(cancel: CancelTimer): void {
    if (this.#isAnswered) cancel();
    else this.#cancelTimeout = cancel;
  }

  handleAccept(): void {
    this.#requireUnanswered('ACCEPT');
    this.#answer();
    this.#offerIfSendable();
    this.#sink?.handleAccept();
  }

  handleRefuse(reason: VproxyError): void {
    this.#requireUnanswered('REFUSE');
    this.#finish(reason);
  }

  /** DATA, or a part of its payload. True when the bytes were kept. */
  handleData(bytes: Buffer): boolean {
    this.#requireOpenDirection('DATA');
    this.#receiving.receive(bytes.length, this.#id);
    if (this.#receiving.isStopped) return false;
    return this.#sink?.handleData(bytes) ?? false;
  }

  handleCredit(totalBytes: number): void {
    if (this.#sending.raiseCredit(totalBytes)) this.#offerIfSendable();
  }

  handleFin(): void {
    this.#requireOpenDirection('FIN');
    this.#receiving.end();
    if (!this.#receiving.isStopped) this.#sink?.handleFin();
    this.#finishIfBothEnded();
  }

  handleStop(reason: VproxyError): void {
    if (this.#wasStopped || this.#finSent) return;
    this.#wasStopped = true;
    this.#sending.drop();
    if (this.#receiving.hasEnded) {
      this.reset(reason.code, reason.message);
      return;
    }
    this.#finAsked = true;
    this.#sendFinIfDue();
    this.#sink?.handleStop(reason);
  }

  /** The peer's RESET, a time-out, or the end of the session. */
  handleEnd(reason: VproxyError): void {
    this.#finish(reason);
  }

  /** How much could be sent now, in bytes, were it not for the session's credit. */
  get sendableBytes(): number {
    if (this.#id === 0) return 0;
    if (this.#isAnswered) {
      const bytes = this.#sending.sendableBytes(Number.POSITIVE_INFINITY);
      return bytes > 0 && this.#pace !== null ? Math.min(bytes, this.#pace.send.availableBytes) : bytes;
    }
    return this.isIncoming ? 0 : this.#sending.sendableBytes(FIRST_FLIGHT_BYTES);
  }

  /** Sends one frame of at most `maxBytes`; the number of bytes sent. Called where `sendableBytes` is above 0. */
  sendFrame(writer: FrameWriter, maxBytes: number): number {
    const bytes = Math.min(this.sendableBytes, maxBytes);
    this.#sending.sendFrame(writer, this.#id, bytes);
    this.#pace?.send.take(bytes);
    return bytes;
  }

  /** After `sendFrame`: tells the sink when nothing waits any more. */
  notifySent(): void {
    if (this.isWaiting) this.awaitPace();
    if (this.isWaiting || this.#isInSend) return;
    this.#sendFinIfDue();
    this.#sink?.handleSent(!this.#sending.isLent);
  }

  /** Where only the pace holds back what waits, it goes on by itself. */
  awaitPace(): void {
    if (this.#isAnswered && this.isWaiting && this.sendCreditBytes > 0) this.#pace?.send.whenAvailable(this.#goOn);
  }

  // ---- inside ---------------------------------------------------------------------------------------------------

  #offerIfSendable(): void {
    if (this.sendableBytes > 0) this.#host.offer(this);
    else this.awaitPace();
  }

  readonly #goOn = (): void => {
    if (!this.#isOver) this.#offerIfSendable();
  };

  /** What waits for the pace is not wanted any more. */
  #dropPaced(reason: VproxyError | null): void {
    const bytes = this.#paced?.drop(reason) ?? 0;
    if (bytes > 0) this.release(bytes);
  }

  /** Sends what was asked for while it could not be sent: data, or a FIN alone. */
  #sendDelayed(): void {
    if (this.isWaiting) {
      this.#offerIfSendable();
    } else if (this.#finAsked && !this.#finSent) {
      this.#sendFinIfDue();
      this.#sink?.handleSent(true);
    }
  }

  #sendFinIfDue(): void {
    if (!this.#finAsked || this.#finSent || this.#isOver || this.isWaiting) return;
    if (this.#id === 0 || (this.isIncoming && !this.#isAnswered)) return;
    this.#finSent = true;
    this.#host.control(FRAME_TYPE.FIN, this.#id, NO_PAYLOAD);
    this.#finishIfBothEnded();
  }

  #finishIfBothEnded(): void {
    if (this.#finSent && this.#receiving.hasEnded) this.#finish(null);
  }

  #answer(): void {
    this.#stopWaiting();
    this.#host.answered(this);
  }

  #retract(): void {
    this.#stopWaiting();
    this.#host.retracted();
  }

  /** The answer has come, or is not waited for any more. */
  #stopWaiting(): void {
    this.#isAnswered = true;
    this.#cancelTimeout?.();
    this.#cancelTimeout = null;
  }

  #finish(reason: VproxyError | null): void {
    if (this.#isOver) return;
    if (!this.#isAnswered) this.#answer();
    this.#isOver = true;
    this.#sending.drop();
    this.#receiving.close(reason === null);
    this.#pace?.send.forget(this.#goOn);
    this.#host.over(this, reason);
    this.#sink?.handleEnd(reason);
  }

  /** Whether bytes that arrived still lie on this side although the stream is over. */
  get isDraining(): boolean {
    return this.#receiving.isDraining;
  }

  #stopDraining(): void {
    if (this.#receiving.stopDraining()) this.#host.drained(this);
  }

  #requireUnanswered(what: string): void {
    if (this.isIncoming) throw violation(what, this.#id, 'by the opener');
    if (this.#isAnswered) throw violation(what, this.#id, 'twice');
  }

  #requireOpenDirection(what: string): void {
    if (this.#receiving.hasEnded) throw violation(what, this.#id, 'after FIN');
    if (!this.isIncoming && !this.#isAnswered) throw violation(what, this.#id, 'before ACCEPT');
  }
}

const NO_PAYLOAD = Buffer.alloc(0);

const violation = (what: string, id: number, rest: string): VproxyError =>
  new VproxyError('protocol-error', `${what} on stream ${id} ${rest}`);

// What a stream needs of the session that it is a part of.

/** The session, as its streams see it. */
export interface StreamHost {
  readonly nowMs: number;
  readonly roundTripMs: number;
  /** The largest DATA payload that is good to send on a stream at this moment, in bytes. */
  frameBytes(streamId: number): number;
  /** The stream has data and credit: the session calls its `sendFrame`, now or when its turn comes. */
  offer(stream: SessionStream): void;
  /** Sends a control frame, behind those that wait. */
  control(type: number, streamId: number, payload: Buffer): void;
  /** The stream's credit was raised. */
  raise(stream: SessionStream): void;
  /** The stream was answered, or is over before it was. */
  answered(stream: SessionStream): void;
  /** This side opened the stream, and has reset it before an answer. Comes instead of `answered`. */
  retracted(): void;
  /** The stream is over for the protocol: with a reason where it did not end in order. */
  over(stream: SessionStream, reason: VproxyError | null): void;
  /** A stream that was over has been drained: its place is free. */
  drained(stream: SessionStream): void;
}

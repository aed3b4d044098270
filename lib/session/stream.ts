/** One stream of a session: states, credit in both directions, and send buffer (R-STREAM-2 to R-STREAM-11, R-FLOW-2). */
import type { FrameWriter } from '../codec/frame-writer.js';
import { FRAME_TYPE } from '../codec/header.js';
import { fromReason, type Reason, toReason } from '../codec/json.js';
import { encodeOpen, encodeReason, type OpenRequest } from '../codec/payloads.js';
import { successorOf, VproxyError } from '../errors.js';
import type { Budget } from '../util/bounds.js';
import type { CancelTimer } from '../util/clock.js';
import type { Pace, ReceiveWindow, ReceiveWindowState } from './flow.js';
import type { LocalEnd, StreamWait } from './local-end.js';
import { PacedEnd, type StreamPace, UNLIMITED, type WaitingState } from './pacing.js';
import type { RowMember, Scheduled, Scheduler } from './scheduler.js';
import { SENT, SendBuffer, type SendBufferState, type Sent } from './send-buffer.js';

/** The states of a stream as a whole (docs/protocol.md, "States of a stream"), with their possible successors. */
export const STREAM_STATES = {
  held: ['opening', 'over'],
  opening: ['open', 'over'],
  open: ['draining', 'over'],
  draining: ['over'],
  over: [],
} as const;

/** The states of the direction from this side to the peer, while the stream is not over. */
export const SENDING_STATES = {
  open: ['finishing', 'stopping'],
  finishing: ['finished', 'stopping'],
  finished: [],
  stopping: ['stopped'],
  stopped: [],
} as const;

/** The states of the direction from the peer to this side, while the stream is not over. */
export const RECEIVING_STATES = {
  open: ['ended', 'refusing'],
  ended: [],
  refusing: ['refused'],
  refused: [],
} as const;

/** The most that may be sent before the peer accepted the stream, in bytes (R-STREAM-4). */
const FIRST_FLIGHT_BYTES = 16_384;

const NO_PAYLOAD = Buffer.alloc(0);

const IS_NOT_SERVED = (): boolean => false;

/** Counts a session's streams; notified of every change that affects a limit. */
export interface StreamBooks {
  /** The stream was answered, or ended unanswered. */
  answered(stream: SessionStream): void;
  /** This side opened the stream and reset it before an answer. Called instead of `answered`. */
  retracted(): void;
  /** The stream is over for the protocol: with a reason if it did not end in order. */
  over(stream: SessionStream, reason: VproxyError | null): void;
  /** A stream that was over has been drained: its slot is free. */
  drained(stream: SessionStream): void;
}

/** How many messages of a flow went each way on this side, and how many were dropped here. */
export interface MessageCounts {
  /** Given to the stream, for the peer. */
  readonly sent: number;
  /** For the peer, but dropped on this side: the queue was full, or the flow ended. */
  readonly sendDropped: number;
  /** Received from the peer and handed on. */
  readonly received: number;
  /** Received from the peer and dropped on this side. */
  readonly receiveDropped: number;
}

/** Shared by all streams of a session. */
export interface StreamContext {
  readonly scheduler: Scheduler;
  readonly books: StreamBooks;
  /** Decides how the windows of the streams grow. */
  readonly pace: Pace;
  /** Bounds what all flows of the session hold together. */
  readonly datagramBudget: Budget;
}

/** The state of a {@link SessionStream}, without its local end. */
export interface StreamState {
  /** 0 while the open is held back. */
  id: number;
  readonly service: string;
  readonly from: string | null;
  readonly isIncoming: boolean;
  readonly isDatagram: boolean;
  readonly openedAtMs: number;
  owner: string | null;
  smallFrames: number;
  phase: keyof typeof STREAM_STATES;
  sending: keyof typeof SENDING_STATES;
  receiving: keyof typeof RECEIVING_STATES;
  readonly window: ReceiveWindowState;
  readonly buffer: SendBufferState;
  /** A STOP that is held back together with the OPEN. */
  stopPayload: Buffer | null;
  /** The peer's STOP. */
  stopReason: Reason | null;
  /** Received bytes for the local end: set only from the hand-over of the stream until it has a new local end. */
  waiting: WaitingState | null;
}

/** A destination that a peer has chosen. */
export interface StreamTarget {
  /** `HOST:PORT`, as requested. */
  readonly destination: string;
  /** `ADDRESS:PORT` that was connected to. */
  readonly address: string;
  /** The rule that allowed it. */
  readonly rule: string;
}

export const newStream = (
  { service, from, isDatagram = false }: OpenRequest,
  start: Pick<StreamState, 'isIncoming' | 'openedAtMs' | 'window'> & {
    /** The initial credit that the peer announced. */
    readonly creditBytes: number;
  },
): StreamState => ({
  id: 0,
  service,
  from,
  isIncoming: start.isIncoming,
  isDatagram,
  openedAtMs: start.openedAtMs,
  owner: null,
  smallFrames: 0,
  phase: 'held',
  sending: 'open',
  receiving: 'open',
  window: start.window,
  buffer: { creditBytes: start.creditBytes, sentBytes: 0, waiting: null },
  stopPayload: null,
  stopReason: null,
  waiting: null,
});

/** Both directions of a stream. Its events go to its {@link LocalEnd}. */
export class SessionStream implements Scheduled {
  readonly service: string;
  /** The origin of the opener's local socket: claimed by the peer on incoming streams; null if not given. */
  readonly from: string | null;
  /** Whether the peer opened it. */
  readonly isIncoming: boolean;
  /** Whether it is a flow: its bytes are messages (R-DGRAM-3). */
  readonly isDatagram: boolean;
  /** The messages of a flow, if its local end counts them. */
  messages: MessageCounts | null = null;
  /** When it was made, by the session's clock. */
  readonly openedAtMs: number;
  /** Its owner on this side, such as the id of a forward; only for lists of streams. */
  owner: string | null;
  /** What its owner connected it to, if its peer has chosen that; only for lists of streams. */
  reached: StreamTarget | null = null;
  /** Whether its local end is still busy, which may outlive it, such as a process being ended. Set by the service. */
  isServed: () => boolean = IS_NOT_SERVED;
  /** Called when it is over, for counting the streams of a service; `isServed` may still be true. */
  onOver: (() => void) | null = null;

  nextInRow: RowMember | null = null;
  hasTurn = false;
  isCreditDue = false;
  smallFrames: number;

  readonly #context: StreamContext;
  readonly #state: StreamState;
  readonly #window: ReceiveWindow;
  readonly #buffer: SendBuffer;
  #localEnd: LocalEnd | null;
  #cancelTimeout: CancelTimer | null = null;
  /** Whether `send` is on the call stack: its caller learns the outcome from the return value. */
  #isInSend = false;
  #pace: StreamPace | null = null;
  /** Stands in front of the local end if there is a pace. */
  #paced: PacedEnd | null = null;

  /** With the `state` of another stream, call `attach` next, then `goOn`. `window` has the window state of `state`. */
  constructor(context: StreamContext, state: StreamState, window: ReceiveWindow, localEnd: LocalEnd | null) {
    this.#context = context;
    this.#state = state;
    this.service = state.service;
    this.from = state.from;
    this.isDatagram = state.isDatagram;
    this.isIncoming = state.isIncoming;
    this.openedAtMs = state.openedAtMs;
    this.owner = state.owner;
    this.smallFrames = state.smallFrames;
    this.#localEnd = localEnd;
    this.#window = window;
    this.#buffer = new SendBuffer(state.buffer);
  }

  /** 0 while the open is held back. */
  get id(): number {
    return this.#state.id;
  }

  /** Whether the answer came, or is no longer awaited. */
  get isAnswered(): boolean {
    return this.#state.phase !== 'held' && this.#state.phase !== 'opening';
  }

  /** Whether it is over for the protocol; bytes may still be on this side. */
  get isOver(): boolean {
    return this.#state.phase === 'draining' || this.#state.phase === 'over';
  }

  /** Whether received bytes are still on this side although the stream is over. */
  get isDraining(): boolean {
    return this.#state.phase === 'draining';
  }

  /** DATA sent so far, in bytes. */
  get sentBytes(): number {
    return this.#buffer.sentBytes;
  }

  /** DATA received so far, in bytes. */
  get receivedBytes(): number {
    return this.#state.window.receivedBytes;
  }

  /** The total that the peer may have sent, in bytes. */
  get grantedBytes(): number {
    return this.#state.window.grantedBytes;
  }

  /** The credit that the peer leaves to be sent on this stream, in bytes. */
  get sendCreditBytes(): number {
    return this.#buffer.creditLeftBytes;
  }

  /** The bytes that the peer may send before it is given more credit. */
  get receiveCreditBytes(): number {
    return this.grantedBytes - this.receivedBytes;
  }

  /** Received bytes that have not left this side. */
  get unreadBytes(): number {
    return this.#window.unreadBytes;
  }

  /** The best size of the next read from a local socket, in bytes: what fits one frame. */
  get frameBytes(): number {
    return this.#context.scheduler.frameBytes(this.#state.id);
  }

  /** Whether another stream is interactive now, which this one should delay as little as possible. */
  get isBesideInteractive(): boolean {
    return this.#context.scheduler.isBesideInteractive(this.#state.id);
  }

  /** Bounds what all flows of the session hold together: the local end reserves what it keeps. */
  get datagramBudget(): Budget {
    return this.#context.datagramBudget;
  }

  /** What the stream waits for; null if nothing. `sessionCreditBytes` is the session's credit left to be sent. */
  waitsFor(sessionCreditBytes: number): StreamWait | null {
    if (!this.isAnswered) return 'answer';
    if (this.isWaiting) {
      if (this.sendCreditBytes <= 0) return 'peer';
      return sessionCreditBytes <= 0 ? 'session' : 'channel';
    }
    return this.unreadBytes > 0 ? 'local' : null;
  }

  // ---- for the local end ----------------------------------------------------------------------------------------

  /** Limits its speed in both directions, together with all that share the limits. Call before `attach`. */
  setPace(pace: StreamPace): void {
    this.#pace = pace;
  }

  /**
   * Gives a stream its local end: an incoming one while the session announces it, and a restored one before it continues. Bytes
   * that waited for the earlier local end go to this one then.
   */
  attach(localEnd: LocalEnd): void {
    const { waiting } = this.#state;
    const limit = this.#pace?.receive ?? (waiting === null ? null : UNLIMITED);
    this.#paced = limit === null ? null : new PacedEnd(localEnd, limit, waiting ?? undefined);
    this.#state.waiting = null;
    this.#localEnd = this.#paced ?? localEnd;
  }

  get isAttached(): boolean {
    return this.#localEnd !== null;
  }

  /** Whether it needs no local end: this side has written its last byte, and reads nothing more. */
  get isLeft(): boolean {
    const { receiving, sending } = this.#state;
    return receiving !== 'open' && (sending === 'finishing' || sending === 'finished');
  }

  /** Ends it if the peer still has not ended its direction, as it should after a STOP. */
  giveUp(): void {
    if (!this.#hasEnded) this.reset('local-error', 'the peer did not end its direction');
  }

  accept(): void {
    if (!this.#isUnanswered()) return;
    this.#handleAnswer();
    this.#context.scheduler.control(FRAME_TYPE.ACCEPT, this.#state.id, NO_PAYLOAD);
    this.#sendDelayed();
  }

  /** Refuses an incoming stream, which ends it. */
  refuse(code: string, message: string): void {
    if (!this.#isUnanswered()) return;
    this.#context.scheduler.control(FRAME_TYPE.REFUSE, this.#state.id, encodeReason({ code, message }));
    this.#finish(new VproxyError(code, message));
  }

  /** Calls back when neither the channel nor the session keeps anything of what was sent so far. */
  afterKept(callback: () => void): void {
    this.#context.scheduler.afterKept(callback);
  }

  /**
   * Sends `buffer[start, end)`, which must not be empty, in as many frames as it takes. `hasRoom`: the 16 bytes
   * before `start` and the 4 from `end` on may be overwritten with headers and the trailer, and so may the bytes between once
   * they are sent.
   */
  send(buffer: Buffer, start: number, end: number, hasRoom: boolean): Sent {
    // After the peer's STOP or the end of the stream, bytes are dropped: the local end has been informed.
    if (this.isOver || this.#state.sending === 'stopping' || this.#state.sending === 'stopped') return SENT.FREE;
    if (this.isWaiting || this.#state.sending !== 'open')
      throw new VproxyError('internal', 'send while earlier bytes wait or after finish');
    this.#buffer.put(buffer, start, end, hasRoom);
    this.#isInSend = true;
    this.#offerIfSendable();
    this.#isInSend = false;
    return this.#buffer.outcome;
  }

  /** Whether bytes given to `send` still wait to be sent. */
  get isWaiting(): boolean {
    return this.#buffer.isWaiting;
  }

  /** Whether the channel still holds a part of the buffer last given to `send`. */
  get isLent(): boolean {
    return this.#buffer.isLent;
  }

  /** Ends this side's direction after the waiting bytes. Returns true if FIN has been sent; else `handleSent` follows. */
  finish(): boolean {
    if (this.#state.sending !== 'open' || this.isOver) return true;
    this.#turnSending('finishing');
    this.#sendFinIfDue();
    return !this.#isFinDue || this.isOver;
  }

  /** Stops reading: later bytes are dropped, and the peer is asked to end its direction. */
  stop(code: string, message: string): void {
    this.#dropPaced(null);
    if (this.#state.receiving !== 'open' || this.isOver) return;
    this.#turnReceiving('refusing');
    const payload = encodeReason({ code, message });
    if (this.#state.phase === 'held') this.#state.stopPayload = payload;
    else this.#context.scheduler.control(FRAME_TYPE.STOP, this.#state.id, payload);
  }

  /** Ends both directions now and drops what waits. */
  reset(code: string, message: string): void {
    if (this.isOver) {
      this.#dropPaced(new VproxyError(code, message));
      this.#stopDraining();
      return;
    }
    if (this.#isUnanswered()) {
      this.refuse(code, message);
      return;
    }
    // Room in the channel would let the waiting bytes out behind the RESET.
    this.#buffer.drop();
    const isRetracted = this.#state.phase === 'opening';
    if (this.#state.phase !== 'held') {
      this.#context.scheduler.control(FRAME_TYPE.RESET, this.#state.id, encodeReason({ code, message }));
    }
    this.#finish(new VproxyError(code, message), isRetracted);
  }

  /** Reports that bytes passed to `handleData` have left this side. */
  release(bytes: number): void {
    if (this.#state.phase === 'over') return;
    // A larger window does not speed up bytes that wait for the pace, and flows should leave the budget to streams.
    const mayGrow = !this.isDatagram && (this.#paced === null || this.#paced.waitingBytes === 0);
    const isRaised = this.#window.release(bytes, this.#context.pace, mayGrow);
    if (this.#state.phase === 'draining') {
      if (this.unreadBytes === 0) this.#stopDraining();
    } else if (isRaised && this.#state.receiving === 'open') {
      this.#context.scheduler.announceCredit(this);
    }
  }

  // ---- handing over ---------------------------------------------------------------------------------------------

  /** Throws `upgrade-failed` if bytes that came before the answer are held by a local end that cannot list them. */
  get state(): StreamState {
    const { owner, smallFrames } = this;
    return { ...this.#state, owner, smallFrames, buffer: this.#buffer.state, waiting: this.#waiting() };
  }

  /** Continues: informs the local end, and sends. */
  goOn(): void {
    // The local end of an unanswered stream is new and does not know of the STOP.
    const stopReason = fromReason(this.#state.stopReason);
    if (this.#isUnanswered() && stopReason !== null) this.#localEnd?.handleStop(stopReason);
    this.#paced?.goOn();
    this.#sendOn();
  }

  /** The local end of an unanswered stream is not handed over, but the bytes for it are. */
  #waiting(): WaitingState | null {
    const waiting = this.#paced?.state ?? this.#state.waiting;
    if (!this.#isUnanswered()) return waiting?.pieces.length === 0 ? null : waiting;
    // It no longer reads.
    if (this.#state.receiving === 'refusing' || this.#state.receiving === 'refused') return null;
    const pieces = [...(this.#localEnd?.listHeld?.() ?? []), ...(waiting?.pieces ?? [])];
    const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
    if (bytes !== this.unreadBytes)
      throw new VproxyError(
        'upgrade-failed',
        `bytes that came on stream ${this.#state.id} before its answer cannot be handed over`,
      );
    const hasFin = this.#state.receiving === 'ended';
    return bytes > 0 || hasFin ? { pieces, hasFin, hasEnd: false } : null;
  }

  // ---- for the session and its table of streams -----------------------------------------------------------------

  /** Assigns the id; opens an outgoing stream. */
  begin(id: number): void {
    this.#state.id = id;
    this.#enter('opening');
    if (this.isIncoming) return;
    this.#context.scheduler.control(FRAME_TYPE.OPEN, id, encodeOpen(this));
    if (this.#state.stopPayload !== null) this.#context.scheduler.control(FRAME_TYPE.STOP, id, this.#state.stopPayload);
    this.#state.stopPayload = null;
    this.#sendDelayed();
  }

  /** `cancel` stops the timer for the answer; called when the stream is answered or over. */
  startDeadline(cancel: CancelTimer): void {
    if (this.isAnswered) cancel();
    else this.#cancelTimeout = cancel;
  }

  handleAccept(): void {
    this.#requireUnanswered('ACCEPT');
    this.#handleAnswer();
    this.#offerIfSendable();
    this.#localEnd?.handleAccept?.();
  }

  handleRefuse(reason: VproxyError): void {
    this.#requireUnanswered('REFUSE');
    this.#finish(reason);
  }

  /** Handles DATA, or a part of its payload. Returns true if the bytes were kept. */
  handleData(bytes: Buffer): boolean {
    this.#requireOpenDirection('DATA');
    this.#window.receive(bytes.length, this.#state.id);
    if (this.#state.receiving === 'refusing') return false;
    return this.#localEnd?.handleData(bytes) ?? false;
  }

  handleCredit(totalBytes: number): void {
    if (this.#buffer.raiseCredit(totalBytes)) this.#offerIfSendable();
  }

  handleFin(): void {
    this.#requireOpenDirection('FIN');
    const isWanted = this.#state.receiving === 'open';
    this.#turnReceiving(isWanted ? 'ended' : 'refused');
    if (isWanted) this.#localEnd?.handleFin();
    this.#finishIfBothEnded();
  }

  handleStop(reason: VproxyError): void {
    if (this.#state.sending !== 'open' && this.#state.sending !== 'finishing') return;
    this.#state.stopReason = toReason(reason);
    this.#turnSending('stopping');
    this.#buffer.drop();
    // A flow ends both ways at once (R-DGRAM-6); an unanswered one is refused.
    if (this.#hasEnded || this.isDatagram) {
      this.reset(reason.code, reason.message);
      return;
    }
    this.#sendFinIfDue();
    this.#localEnd?.handleStop(reason);
  }

  /** The peer's RESET, a timeout, or the end of the session. */
  handleEnd(reason: VproxyError): void {
    this.#finish(reason);
  }

  // ---- for the scheduler ----------------------------------------------------------------------------------------

  get sendableBytes(): number {
    if (this.#state.phase === 'opening') return this.isIncoming ? 0 : this.#buffer.sendableBytes(FIRST_FLIGHT_BYTES);
    if (this.#state.phase === 'held') return 0;
    const bytes = this.#buffer.sendableBytes(Number.POSITIVE_INFINITY);
    return bytes > 0 && this.#pace !== null ? Math.min(bytes, this.#pace.send.availableBytes) : bytes;
  }

  sendFrame(writer: FrameWriter, maxBytes: number): number {
    const bytes = Math.min(this.sendableBytes, maxBytes);
    this.#buffer.sendFrame(writer, this.#state.id, bytes);
    this.#pace?.send.spend(bytes);
    return bytes;
  }

  handleTurnEnd(): void {
    if (this.isWaiting) this.awaitPace();
    if (this.isWaiting || this.#isInSend) return;
    this.#sendFinIfDue();
    this.#localEnd?.handleSent(!this.isLent);
  }

  awaitPace(): void {
    if (this.isAnswered && this.isWaiting && this.sendCreditBytes > 0) this.#pace?.send.whenAvailable(this.#sendOn);
  }

  // ---- inside ---------------------------------------------------------------------------------------------------

  /** Whether this side still owes the answer. */
  #isUnanswered(): boolean {
    return this.isIncoming && this.#state.phase === 'opening';
  }

  /** Whether the peer's FIN has come. */
  get #hasEnded(): boolean {
    return this.#state.receiving === 'ended' || this.#state.receiving === 'refused';
  }

  /** Whether a FIN was requested, by this side or by the peer's STOP, but not sent. */
  get #isFinDue(): boolean {
    return this.#state.sending === 'finishing' || this.#state.sending === 'stopping';
  }

  #offerIfSendable(): void {
    if (this.sendableBytes > 0) this.#context.scheduler.offer(this);
    else this.awaitPace();
  }

  readonly #sendOn = (): void => {
    if (!this.isOver) this.#offerIfSendable();
  };

  /** Drops received bytes that wait for the pace. */
  #dropPaced(reason: VproxyError | null): void {
    const bytes = this.#paced?.drop(reason) ?? 0;
    if (bytes > 0) this.release(bytes);
  }

  /** Sends what could not be sent when it was requested: data, or a FIN alone. */
  #sendDelayed(): void {
    if (this.isWaiting) {
      this.#offerIfSendable();
    } else if (this.#isFinDue) {
      this.#sendFinIfDue();
      this.#localEnd?.handleSent(true);
    }
  }

  #sendFinIfDue(): void {
    if (!this.#isFinDue || this.isOver || this.isWaiting) return;
    if (this.#state.phase === 'held' || this.#isUnanswered()) return;
    const next = this.#state.sending === 'finishing' ? 'finished' : 'stopped';
    this.#turnSending(next);
    this.#context.scheduler.control(FRAME_TYPE.FIN, this.#state.id, NO_PAYLOAD);
    this.#finishIfBothEnded();
  }

  #finishIfBothEnded(): void {
    if (this.#hasEnded && (this.#state.sending === 'finished' || this.#state.sending === 'stopped')) this.#finish(null);
  }

  #handleAnswer(): void {
    this.#enter('open');
    this.#stopDeadline();
    this.#context.books.answered(this);
  }

  #stopDeadline(): void {
    this.#cancelTimeout?.();
    this.#cancelTimeout = null;
  }

  /** Ends the stream for the protocol and reports it once. `isRetracted`: this side retracts its OPEN. */
  #finish(reason: VproxyError | null, isRetracted = false): void {
    if (this.isOver) return;
    const { books, scheduler } = this.#context;
    const wasAnswered = this.isAnswered;
    const hasRest = reason === null && this.#state.receiving === 'ended' && this.unreadBytes > 0;
    this.#enter(hasRest ? 'draining' : 'over');
    this.#stopDeadline();
    this.#buffer.drop();
    if (!hasRest) this.#window.close();
    this.#pace?.send.forget(this.#sendOn);
    scheduler.forget(this);
    if (isRetracted) books.retracted();
    else if (!wasAnswered) books.answered(this);
    books.over(this, reason);
    this.onOver?.();
    this.#localEnd?.handleEnd(reason);
  }

  #stopDraining(): void {
    if (this.#state.phase !== 'draining') return;
    this.#enter('over');
    this.#window.close();
    this.#context.books.drained(this);
  }

  #enter(next: keyof typeof STREAM_STATES): void {
    this.#state.phase = successorOf(this, STREAM_STATES, this.#state.phase, next);
  }

  #turnSending(next: keyof typeof SENDING_STATES): void {
    this.#state.sending = successorOf(this, SENDING_STATES, this.#state.sending, next);
  }

  #turnReceiving(next: keyof typeof RECEIVING_STATES): void {
    this.#state.receiving = successorOf(this, RECEIVING_STATES, this.#state.receiving, next);
  }

  /** For the error of a transition that its table does not have. */
  toString(): string {
    return `stream ${this.#state.id}`;
  }

  #requireUnanswered(what: string): void {
    if (this.isIncoming) throw violation(what, this.#state.id, 'by the opener');
    if (this.isAnswered) throw violation(what, this.#state.id, 'twice');
  }

  #requireOpenDirection(what: string): void {
    if (this.#hasEnded) throw violation(what, this.#state.id, 'after FIN');
    if (!this.isIncoming && !this.isAnswered) throw violation(what, this.#state.id, 'before ACCEPT');
  }
}

const violation = (what: string, id: number, rest: string): VproxyError =>
  new VproxyError('protocol-error', `${what} on stream ${id} ${rest}`);

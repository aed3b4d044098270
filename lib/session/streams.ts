/** The streams of a session: their ids, which are let in, and the opens that are held back (R-STREAM-1, R-STREAM-3, R-STREAM-5, R-STREAM-6, R-STREAM-11, R-FLOW-6). */
import { FRAME_TYPE, formatFrameType } from '../codec/header.js';
import { type Limits, SERVICE_NAME } from '../codec/limits.js';
import { decodeReasonPayload, type OpenRequest, requireLength } from '../codec/payloads.js';
import { VproxyError } from '../errors.js';
import { Budget, TokenBucket, type TokenBucketState } from '../util/bounds.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { IdTable } from '../util/members/id-table.js';
import { newReceiveWindow, type Pace, ReceiveWindow } from './flow.js';
import type { LocalEnd } from './local-end.js';
import type { Scheduler } from './scheduler.js';
import { listInsteadOf, listServices } from './services.js';
import { newStream, SessionStream, type StreamBooks, type StreamContext, type StreamState } from './stream.js';

const MAX_ID = 0xffff_ffff;

/** The number of streams that their opener may open and reset before an answer: in a second, and at once. */
const RESETS_PER_SECOND = 200;
const RESETS_BURST = 1000;

/**
 * What the peer bears is 200 a second and 1,000 at once. When it stood still, it finds at once what was sent since: up
 * to a burst before, a burst when it is heard again, and what was unanswered meanwhile (256 where it says nothing else).
 */
const PER_SECOND = 150;
const BURST = 300;

/** While places are kept the peer is asked so often for a sign of life: there may be nothing else to hear from it. */
const ASK_MS = 100;

/** What the flows of a session may hold together, of messages that wait or have not come whole. */
const DATAGRAM_BUDGET_BYTES = 16 * 2 ** 20;

/** Settings of the streams of a session. */
export interface StreamSettings {
  /** An open without an answer is given up after this time. */
  readonly openTimeoutMs: number;
  /** What all windows of this channel's streams may grow by together, beyond their first credits. */
  readonly receiveBudget: Budget;
}

interface StreamTableOptions {
  /** This side's first stream id: odd or even decides the parity of both sides. */
  readonly firstId: number;
  readonly peerLimits: Limits;
  readonly ownLimits: Limits;
  readonly settings: StreamSettings;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly pace: Pace;
  /** Offers a stream of the peer to what serves it, by attaching a local end during the call. */
  readonly onOpened: (stream: SessionStream) => void;
  /** A stream is over for the protocol. */
  readonly onOver: () => void;
  /** What the peer offers at the moment. */
  readonly peerServices: () => ReadonlySet<string>;
  /** Makes the peer say something. */
  readonly askPeer: () => void;
}

/** What a {@link StreamTable} counts. */
export interface StreamTableState {
  nextOwnId: number;
  /** The highest id that the peer used. */
  lastPeerId: number;
  ownOpen: number;
  ownUnanswered: number;
  peerOpen: number;
  peerUnanswered: number;
  /** Streams that were opened, by either side. */
  openedCount: number;
  /** Streams that did not end in order, refused ones included. */
  failedCount: number;
  /** How full the bound on the peer's resets is. */
  readonly resets: TokenBucketState;
  readonly retractions: RetractionsState;
}

const newTable = (nextOwnId: number): Omit<StreamTableState, 'resets' | 'retractions'> => ({
  nextOwnId,
  lastPeerId: 0,
  ownOpen: 0,
  ownUnanswered: 0,
  peerOpen: 0,
  peerUnanswered: 0,
  openedCount: 0,
  failedCount: 0,
});

export class StreamTable implements StreamBooks {
  /** What all flows may hold together. */
  readonly datagramBudget = new Budget(DATAGRAM_BUDGET_BYTES);
  readonly #options: StreamTableOptions;
  readonly #context: StreamContext;
  readonly #live = new IdTable<SessionStream>();
  readonly #held = new Set<SessionStream>();
  /** Those that are over, with bytes that are still on this side. */
  readonly #draining = new IdTable<SessionStream>();
  /** Streams that the peer opened and reset before an answer. */
  readonly #resets: TokenBucket;
  readonly #retractions: Retractions;
  readonly #state: Omit<StreamTableState, 'resets' | 'retractions'>;

  /** With the `state` and the `streams` of another one, in the order of `listAll`, `goOn` is to follow. */
  constructor(options: StreamTableOptions, state?: StreamTableState, streams: readonly StreamState[] = []) {
    const { scheduler, pace, clock } = options;
    this.#options = options;
    this.#context = { scheduler, books: this, pace, datagramBudget: this.datagramBudget };
    this.#state = state ?? newTable(options.firstId);
    this.#resets = new TokenBucket(RESETS_PER_SECOND, RESETS_BURST, clock.now(), state?.resets);
    this.#retractions = new Retractions(clock, options.askPeer, state?.retractions);
    for (const each of streams) this.#add(this.#create(each, null));
  }

  // ---- handing over ---------------------------------------------------------------------------------------------

  /** All streams that there is something of: those of `list`, and those that are over and not drained. */
  listAll(): SessionStream[] {
    return [...this.list(), ...this.#draining.list()];
  }

  get state(): StreamTableState {
    return { ...this.#state, resets: this.#resets.state, retractions: this.#retractions.state };
  }

  #add(stream: SessionStream): void {
    if (stream.id === 0) this.#held.add(stream);
    else if (stream.isDraining) this.#draining.set(stream.id, stream);
    else this.#live.set(stream.id, stream);
  }

  /** The stream of an id, over or not, that there is something of; else null. */
  findAny(id: number): SessionStream | null {
    return this.#live.get(id) ?? this.#draining.get(id);
  }

  /** From now on the streams go on, and the time for an answer runs. What the peer opened and nobody has a local end for is announced again. */
  goOn(): void {
    this.#retractions.goOn();
    for (const stream of this.listAll()) {
      if (!stream.isIncoming && !stream.isAnswered) this.#startDeadline(stream);
      // Of a flow a part of a message may have been taken already.
      const isNew = stream.isIncoming && !stream.isAnswered && !stream.isDatagram;
      if (!stream.isAttached && isNew) this.#announce(stream);
      if (!stream.isAttached) stream.reset('cancelled', 'nothing on this side goes on with the stream');
      stream.goOn();
    }
  }

  // ---- what there is --------------------------------------------------------------------------------------------

  /** Streams that have an id and are not over. */
  get size(): number {
    return this.#live.size;
  }

  /** Whether this side has no stream id left. */
  get isExhausted(): boolean {
    return this.#state.nextOwnId > MAX_ID;
  }

  /** The streams that are not over, by their ids; those that are held back are the last. */
  list(): SessionStream[] {
    return [...this.#live.list(), ...this.#held];
  }

  /** The live stream of an id; null for one that has ended. Throws `protocol-error` for one that was never opened. */
  find(id: number, what: string): SessionStream | null {
    const stream = this.#live.get(id);
    if (stream !== null) return stream;
    const wasOpened = this.#isOwnId(id) ? id < this.#state.nextOwnId : id <= this.#state.lastPeerId;
    if (!wasOpened) throw new VproxyError('protocol-error', `${what} on stream ${id}, which was never opened`);
    return null;
  }

  // ---- streams of this side -------------------------------------------------------------------------------------

  /** Opens a stream with the next id, or holds it back until the peer's bounds let it through. */
  open(request: OpenRequest, localEnd: LocalEnd): SessionStream {
    const stream = this.#open(request, localEnd, false);
    this.#state.openedCount += 1;
    this.releaseHeld();
    if (this.#canOpen()) this.#begin(stream);
    else this.#held.add(stream);
    this.#startDeadline(stream);
    return stream;
  }

  /** Opens what the peer's bounds let through. */
  releaseHeld(): void {
    for (const stream of this.#held) {
      if (!this.#canOpen()) return;
      this.#held.delete(stream);
      this.#begin(stream);
    }
  }

  /** Takes out all opens that are held back. */
  takeHeld(): SessionStream[] {
    const held = [...this.#held];
    this.#held.clear();
    return held;
  }

  /** Something came from the peer and was read: opens what that makes room for. */
  handleReceived(): void {
    if (this.#retractions.isWaiting) this.#state.ownUnanswered -= this.#retractions.handleReceived();
    this.releaseHeld();
  }

  // ---- streams of the peer --------------------------------------------------------------------------------------

  /**
   * The peer's OPEN: announces the stream, or refuses it. Throws `protocol-error` for an id of a wrong parity, or one that is
   * not above the last.
   */
  admit(id: number, request: OpenRequest, isDraining: boolean): void {
    if (this.#isOwnId(id))
      throw new VproxyError('protocol-error', `OPEN with id ${id}, which is of this side's parity`);
    if (id <= this.#state.lastPeerId)
      throw new VproxyError('protocol-error', `OPEN with id ${id} is not above ${this.#state.lastPeerId}`);
    this.#state.lastPeerId = id;
    const { streams, opens } = this.#options.ownLimits;
    const hasRoom = this.#state.peerOpen < streams && this.#state.peerUnanswered < opens;
    const stream = this.#open(request, null, true);
    this.#state.openedCount += 1;
    this.#live.set(id, stream);
    this.#state.peerOpen += 1;
    this.#state.peerUnanswered += 1;
    stream.begin(id);
    const { service } = stream;
    if (!hasRoom) {
      stream.refuse('too-many-streams', `${streams} streams or ${opens} unanswered ones are open`);
    } else if (isDraining) {
      stream.refuse('shutdown', 'the session is ending');
    } else if (!SERVICE_NAME.test(service)) {
      stream.refuse('unknown-service', `${escapeText(service, 64)} is no name of a service`);
    } else {
      this.#announce(stream);
    }
  }

  #announce(stream: SessionStream): void {
    this.#options.onOpened(stream);
    if (!stream.isAttached) stream.refuse('unknown-service', `service ${stream.service} is not offered`);
  }

  /**
   * What the peer says of a stream: ACCEPT, REFUSE, FIN, STOP or RESET. Throws `protocol-error` for one that may not come, and
   * `flood` for a RESET where it takes back too many streams before their answer.
   */
  handleFrame(type: number, id: number, payload: Buffer): void {
    const name = formatFrameType(type);
    if (type === FRAME_TYPE.ACCEPT) {
      requireLength(type, payload, 0);
      this.find(id, name)?.handleAccept();
      return;
    }
    if (type === FRAME_TYPE.FIN) {
      requireLength(type, payload, 0);
      this.find(id, name)?.handleFin();
      return;
    }
    const { code, message } = decodeReasonPayload(payload, name);
    const stream = this.find(id, name);
    if (stream === null) return;
    const reason = new VproxyError(code, message);
    if (type === FRAME_TYPE.REFUSE) stream.handleRefuse(this.#withOffer(stream.service, reason));
    else if (type === FRAME_TYPE.STOP) stream.handleStop(reason);
    else this.#handleReset(stream, reason);
  }

  /** Who asked for a service that there is not is told which there are. */
  #withOffer(service: string, reason: VproxyError): VproxyError {
    if (reason.code !== 'unknown-service') return reason;
    const offered = this.#options.peerServices();
    const offer = offered.has(service) ? listServices(offered) : listInsteadOf(service, offered);
    return new VproxyError(reason.code, `${reason.message}; the peer offers: ${offer}`);
  }

  #handleReset(stream: SessionStream, reason: VproxyError): void {
    const isTakenBack = stream.isIncoming && !stream.isAnswered;
    if (isTakenBack && !this.#resets.take(this.#options.clock.now())) {
      throw new VproxyError('flood', `more than ${RESETS_PER_SECOND} streams a second are opened and reset`);
    }
    stream.handleEnd(reason);
  }

  // ---- what streams tell ----------------------------------------------------------------------------------------

  answered(stream: SessionStream): void {
    if (stream.id !== 0) {
      if (stream.isIncoming) this.#state.peerUnanswered -= 1;
      else this.#state.ownUnanswered -= 1;
    }
    this.releaseHeld();
  }

  retracted(): void {
    if (this.#retractions.add()) this.#state.ownUnanswered -= 1;
  }

  over(stream: SessionStream, reason: VproxyError | null): void {
    if (stream.id === 0) {
      this.#held.delete(stream);
    } else {
      this.#live.delete(stream.id);
      if (stream.isDraining) this.#draining.set(stream.id, stream);
      if (!stream.isIncoming) this.#state.ownOpen -= 1;
      else if (!stream.isDraining) this.#state.peerOpen -= 1;
    }
    this.releaseHeld();
    if (reason !== null) this.#state.failedCount += 1;
    this.#options.onOver();
  }

  drained(stream: SessionStream): void {
    this.#draining.delete(stream.id);
    if (stream.isIncoming) this.#state.peerOpen -= 1;
  }

  /** The session is over. */
  stop(): void {
    this.#retractions.stop();
  }

  // ---- inside ---------------------------------------------------------------------------------------------------

  #open(request: OpenRequest, localEnd: LocalEnd | null, isIncoming: boolean): SessionStream {
    const { clock, ownLimits, peerLimits } = this.#options;
    const openedAtMs = clock.now();
    const window = newReceiveWindow(ownLimits.streamCredit, openedAtMs);
    const start = { isIncoming, openedAtMs, window, creditBytes: peerLimits.streamCredit };
    return this.#create(newStream(request, start), localEnd);
  }

  #create(state: StreamState, localEnd: LocalEnd | null): SessionStream {
    const { ownLimits, settings } = this.#options;
    const window = new ReceiveWindow(ownLimits.streamCredit, settings.receiveBudget, state.window);
    return new SessionStream(this.#context, state, window, localEnd);
  }

  /** A stream of this side has so long for an answer. */
  #startDeadline(stream: SessionStream): void {
    const { clock, settings } = this.#options;
    const leftMs = stream.openedAtMs + settings.openTimeoutMs - clock.now();
    const giveUp = (): void =>
      stream.reset('open-timeout', `no answer to the opening within ${settings.openTimeoutMs / 1000} s`);
    stream.startDeadline(clock.schedule(Math.max(0, leftMs), giveUp));
  }

  /** Opens a stream of this side, with the next id. */
  #begin(stream: SessionStream): void {
    const id = this.#state.nextOwnId;
    this.#state.nextOwnId += 2;
    this.#live.set(id, stream);
    this.#state.ownOpen += 1;
    this.#state.ownUnanswered += 1;
    stream.begin(id);
  }

  #canOpen(): boolean {
    const { peerLimits, scheduler } = this.#options;
    const hasRoom = this.#state.ownOpen < peerLimits.streams && this.#state.ownUnanswered < peerLimits.opens;
    return hasRoom && !this.isExhausted && !scheduler.isCongested;
  }

  #isOwnId(id: number): boolean {
    return (id & 1) === (this.#state.nextOwnId & 1);
  }
}

interface RetractionsState {
  /** When something came from the peer. */
  heardAtMs: number;
  keptCount: number;
  readonly bucket: TokenBucketState;
}

/**
 * Counts the streams that this side opened and reset before an answer; what is too fast keeps its place among the unanswered
 * streams, so that fewer are opened and the peer finds no flood in them (R-FLOW-6).
 */
class Retractions {
  readonly #clock: Clock;
  readonly #ask: () => void;
  readonly #bucket: TokenBucket;
  readonly #state: Omit<RetractionsState, 'bucket'>;
  #cancelAsking: CancelTimer | null = null;

  /** `ask` makes the peer say something. */
  constructor(clock: Clock, ask: () => void, state?: RetractionsState) {
    this.#clock = clock;
    this.#ask = ask;
    this.#state = state ?? { heardAtMs: clock.now(), keptCount: 0 };
    this.#bucket = new TokenBucket(PER_SECOND, BURST, this.#state.heardAtMs, state?.bucket);
  }

  get state(): RetractionsState {
    return { ...this.#state, bucket: this.#bucket.state };
  }

  goOn(): void {
    if (this.isWaiting) this.#askLater();
  }

  /** Whether places are kept, so that `handleReceived` has something to do. */
  get isWaiting(): boolean {
    return this.#state.keptCount > 0;
  }

  /** Counts one more. True when its place is free at once. */
  add(): boolean {
    if (this.#bucket.take(this.#state.heardAtMs)) return true;
    this.#state.keptCount += 1;
    if (this.#cancelAsking === null) this.#askLater();
    return false;
  }

  /** Something came from the peer, so it has gone on meanwhile. Gives the number of places that are free now. */
  handleReceived(): number {
    this.#state.heardAtMs = this.#clock.now();
    let freeCount = 0;
    while (freeCount < this.#state.keptCount && this.#bucket.take(this.#state.heardAtMs)) freeCount += 1;
    this.#state.keptCount -= freeCount;
    return freeCount;
  }

  stop(): void {
    this.#cancelAsking?.();
  }

  #askLater(): void {
    this.#cancelAsking = this.#clock.schedule(ASK_MS, () => {
      this.#cancelAsking = null;
      if (!this.isWaiting) return;
      this.#ask();
      this.#askLater();
    });
  }
}

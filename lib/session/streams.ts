/** The streams of a session: ids, admission, holds (R-STREAM-1, R-STREAM-3, R-STREAM-5, R-STREAM-6, R-STREAM-11, R-FLOW-6). */
import { ALL_WAITING_BYTES } from '../codec/datagram-messages.js';
import { FRAME_TYPE, formatFrameType } from '../codec/header.js';
import { type Limits, SERVICE_NAME } from '../codec/limits.js';
import { decodeReasonPayload, type OpenRequest, requireLength } from '../codec/payloads.js';
import { VproxyError } from '../errors.js';
import { Budget, TokenBucket, type TokenBucketState } from '../util/bounds.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { assertInvariants } from '../util/invariant.js';
import { IdTable } from '../util/members/id-table.js';
import { newReceiveWindow, type Pace, ReceiveWindow } from './flow.js';
import { GIVE_UP_MS, type LocalEnd } from './local-end.js';
import type { Scheduler } from './scheduler.js';
import { listInsteadOf, listServices } from './services.js';
import { newStream, SessionStream, type StreamBooks, type StreamContext, type StreamState } from './stream.js';

const MAX_ID = 0xffff_ffff;

/** The frames of a stream that StreamTable handles. */
type StreamFrameType = (typeof FRAME_TYPE)['ACCEPT' | 'REFUSE' | 'FIN' | 'STOP' | 'RESET'];

/** How many streams their opener may open and reset before an answer: per second, and at once. */
const RESETS_PER_SECOND = 200;
const RESETS_BURST = 1000;

/**
 * The peer tolerates 200 a second and 1,000 at once. After a standstill it receives everything sent since at once: up
 * to a burst from before, a burst when it is heard again, and the streams unanswered meanwhile (256 by default).
 */
const PER_SECOND = 150;
const BURST = 300;

/** How often the peer is asked for a sign of life while slots are kept: nothing else may come from it. */
const ASK_MS = 100;

export interface StreamSettings {
  /** Time limit for the answer to an open. */
  readonly openTimeoutMs: number;
  /** Bounds the growth of all windows of this channel's streams together, beyond their initial credits. */
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
  /** A stream is over for the protocol. */
  readonly onOver: () => void;
  /** The services that the peer offers now. */
  readonly peerServices: () => ReadonlySet<string>;
  /** Makes the peer send something. */
  readonly askPeer: () => void;
}

/** The counters of a {@link StreamTable}. */
export interface StreamTableState {
  nextOwnId: number;
  /** The highest id that the peer used. */
  lastPeerId: number;
  ownOpen: number;
  ownUnanswered: number;
  peerOpen: number;
  peerUnanswered: number;
  /** Streams opened by either side. */
  openedCount: number;
  /** Streams that did not end in order, including refused ones. */
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
  /** Bounds what all flows hold together, in messages that wait or are incomplete. */
  readonly datagramBudget = new Budget(ALL_WAITING_BYTES);
  readonly #options: StreamTableOptions;
  readonly #context: StreamContext;
  readonly #live = new IdTable<SessionStream>();
  readonly #queued = new Set<SessionStream>();
  /** Streams that are over but have bytes left on this side. */
  readonly #draining = new IdTable<SessionStream>();
  /** Streams that the peer opened and reset before an answer. */
  readonly #resets: TokenBucket;
  readonly #retractions: Retractions;
  readonly #state: Omit<StreamTableState, 'resets' | 'retractions'>;

  /** With the `state` and the `streams` of another table, in the order of `listAll`, call `goOn` next. */
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

  /** All streams of `list`, and those that are over but not drained. */
  listAll(): SessionStream[] {
    return [...this.list(), ...this.#draining.list()];
  }

  get state(): StreamTableState {
    return { ...this.#state, resets: this.#resets.state, retractions: this.#retractions.state };
  }

  /** Its counters; `state` has them, too, but is made for a successor. */
  get counts(): Pick<StreamTableState, 'openedCount' | 'failedCount' | 'lastPeerId'> {
    return this.#state;
  }

  #add(stream: SessionStream): void {
    if (stream.id === 0) this.#queued.add(stream);
    else if (stream.isDraining) this.#draining.set(stream.id, stream);
    else this.#live.set(stream.id, stream);
  }

  /** A live or draining stream by id, or null. */
  findAny(id: number): SessionStream | null {
    return this.#live.get(id) ?? this.#draining.get(id);
  }

  /** Continues all streams and restarts their answer timeouts. Incoming ones without answer and local end are served again. */
  goOn(serve: (stream: SessionStream) => void): void {
    this.#retractions.goOn();
    for (const stream of this.listAll()) {
      if (!stream.isIncoming && !stream.isAnswered) this.#startDeadline(stream);
      // A flow may have consumed a part of a message already.
      const isNew = stream.isIncoming && !stream.isAnswered && !stream.isDatagram;
      if (!stream.isAttached && isNew) serve(stream);
      if (!stream.isAttached)
        if (stream.isLeft) this.#options.clock.schedule(GIVE_UP_MS, () => stream.giveUp());
        else stream.reset('cancelled', 'nothing on this side took the stream over');
      stream.goOn();
    }
  }

  // ---- inspection -----------------------------------------------------------------------------------------------

  /** Streams that have an id and are not over. */
  get size(): number {
    return this.#live.size;
  }

  /** Whether this side has run out of stream ids. */
  get isExhausted(): boolean {
    return this.#state.nextOwnId > MAX_ID;
  }

  /** The streams that are not over, by id; held-back ones come last. */
  list(): SessionStream[] {
    return [...this.#live.list(), ...this.#queued];
  }

  /** A live stream by id, or null if it has ended. Throws `protocol-error` if it was never opened. */
  find(id: number, what: string): SessionStream | null {
    const stream = this.#live.get(id);
    if (stream !== null) return stream;
    const wasOpened = this.#isOwnId(id) ? id < this.#state.nextOwnId : id <= this.#state.lastPeerId;
    if (!wasOpened) throw new VproxyError('protocol-error', `${what} on stream ${id}, which was never opened`);
    return null;
  }

  // ---- streams of this side -------------------------------------------------------------------------------------

  /** Opens a stream with the next id, or holds it back until the peer's limits allow it. */
  open(request: OpenRequest, localEnd: LocalEnd): SessionStream {
    const stream = this.#open(request, localEnd, false);
    this.#state.openedCount += 1;
    this.openQueued();
    if (this.#canOpen()) this.#begin(stream);
    else this.#queued.add(stream);
    this.#startDeadline(stream);
    return stream;
  }

  /** Opens held-back streams as far as the peer's limits allow. */
  openQueued(): void {
    for (const stream of this.#queued) {
      if (!this.#canOpen()) return;
      this.#queued.delete(stream);
      this.#begin(stream);
    }
  }

  /** Removes and returns all held-back opens. */
  takeQueued(): SessionStream[] {
    const held = [...this.#queued];
    this.#queued.clear();
    return held;
  }

  /** Bytes of the peer were read: opens what they make room for. */
  handleReceived(): void {
    if (this.#retractions.isWaiting) this.#state.ownUnanswered -= this.#retractions.handleReceived();
    this.openQueued();
  }

  // ---- streams of the peer --------------------------------------------------------------------------------------

  /**
   * Handles the peer's OPEN: returns the stream, or null after refusing it. Throws `protocol-error` for an id of the wrong parity,
   * or one not above the last.
   */
  admit(id: number, request: OpenRequest, isDraining: boolean): SessionStream | null {
    if (this.#isOwnId(id)) throw new VproxyError('protocol-error', `OPEN with id ${id}: wrong parity`);
    if (id <= this.#state.lastPeerId)
      throw new VproxyError('protocol-error', `OPEN with id ${id}: not above ${this.#state.lastPeerId}`);
    this.#state.lastPeerId = id;
    const { streams, opens } = this.#options.ownLimits;
    const hasRoom = this.#state.peerOpen < streams && this.#state.peerUnanswered < opens;
    const stream = this.#open(request, null, true);
    this.#state.openedCount += 1;
    this.#live.set(id, stream);
    this.#state.peerOpen += 1;
    this.#state.peerUnanswered += 1;
    stream.begin(id);
    INVARIANT: this.#assert();
    const { service } = stream;
    if (!hasRoom) {
      stream.refuse('too-many-streams', `too many streams (max ${streams} open, ${opens} unanswered)`);
    } else if (isDraining) {
      stream.refuse('shutdown', 'the session is shutting down');
    } else if (!SERVICE_NAME.test(service)) {
      stream.refuse('unknown-service', `"${escapeText(service, 64)}": not a valid service name`);
    } else {
      return stream;
    }
    return null;
  }

  /**
   * Handles a frame of a stream. Throws `protocol-error` if it is not allowed now, and `flood` for a RESET if the peer
   * retracts too many unanswered streams.
   */
  handleFrame(type: StreamFrameType, id: number, payload: Buffer): void {
    const name = formatFrameType(type);
    switch (type) {
      case FRAME_TYPE.ACCEPT:
        requireLength(type, payload, 0);
        this.find(id, name)?.handleAccept();
        return;
      case FRAME_TYPE.FIN:
        requireLength(type, payload, 0);
        this.find(id, name)?.handleFin();
        return;
      case FRAME_TYPE.REFUSE: {
        const reason = reasonOf(payload, name);
        const stream = this.find(id, name);
        stream?.handleRefuse(this.#withOffer(stream.service, reason));
        return;
      }
      case FRAME_TYPE.STOP: {
        const reason = reasonOf(payload, name);
        this.find(id, name)?.handleStop(reason);
        return;
      }
      case FRAME_TYPE.RESET: {
        const reason = reasonOf(payload, name);
        const stream = this.find(id, name);
        if (stream !== null) this.#handleReset(stream, reason);
        return;
      }
      default:
        return type satisfies never;
    }
  }

  /** Adds the services that the peer offers to the refusal of an unknown one. */
  #withOffer(service: string, reason: VproxyError): VproxyError {
    if (reason.code !== 'unknown-service') return reason;
    const offered = this.#options.peerServices();
    const offer = offered.has(service) ? listServices(offered) : listInsteadOf(service, offered);
    return new VproxyError(reason.code, `${reason.message}; the peer offers: ${offer}`);
  }

  #handleReset(stream: SessionStream, reason: VproxyError): void {
    const isTakenBack = stream.isIncoming && !stream.isAnswered;
    if (isTakenBack && !this.#resets.take(this.#options.clock.now())) {
      throw new VproxyError('flood', `more than ${RESETS_PER_SECOND} streams per second opened and reset`);
    }
    stream.handleEnd(reason);
  }

  // ---- called by the streams ------------------------------------------------------------------------------------

  answered(stream: SessionStream): void {
    if (stream.id !== 0) {
      if (stream.isIncoming) this.#state.peerUnanswered -= 1;
      else this.#state.ownUnanswered -= 1;
    }
    this.openQueued();
  }

  retracted(): void {
    if (this.#retractions.add()) this.#state.ownUnanswered -= 1;
  }

  over(stream: SessionStream, reason: VproxyError | null): void {
    if (stream.id === 0) {
      this.#queued.delete(stream);
    } else {
      this.#live.delete(stream.id);
      if (stream.isDraining) this.#draining.set(stream.id, stream);
      if (!stream.isIncoming) this.#state.ownOpen -= 1;
      else if (!stream.isDraining) this.#state.peerOpen -= 1;
    }
    this.openQueued();
    if (reason !== null) this.#state.failedCount += 1;
    INVARIANT: this.#assert();
    this.#options.onOver();
  }

  drained(stream: SessionStream): void {
    this.#draining.delete(stream.id);
    if (stream.isIncoming) this.#state.peerOpen -= 1;
    INVARIANT: this.#assert();
  }

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

  /** Starts the time limit for the answer to a stream of this side. */
  #startDeadline(stream: SessionStream): void {
    const { clock, settings } = this.#options;
    const leftMs = stream.openedAtMs + settings.openTimeoutMs - clock.now();
    const giveUp = (): void => stream.reset('open-timeout', `no answer within ${settings.openTimeoutMs / 1000} s`);
    stream.startDeadline(clock.schedule(Math.max(0, leftMs), giveUp));
  }

  /** Opens a stream of this side with the next id. */
  #begin(stream: SessionStream): void {
    const id = this.#state.nextOwnId;
    this.#state.nextOwnId += 2;
    this.#live.set(id, stream);
    this.#state.ownOpen += 1;
    this.#state.ownUnanswered += 1;
    stream.begin(id);
    INVARIANT: this.#assert();
  }

  /** Streams of this side count while they live, those of the peer until they are drained, too. */
  #assert(): void {
    INVARIANT: {
      const { ownOpen, ownUnanswered, peerOpen, peerUnanswered, openedCount, failedCount } = this.#state;
      const [live, draining, kept] = [this.#live.size, this.#draining.size, this.#retractions.keptCount];
      assertInvariants(
        'streams',
        () => ({ ...this.#state, live, draining, kept }),
        ownOpen + peerOpen >= live && ownOpen + peerOpen <= live + draining,
        ownUnanswered >= kept && ownUnanswered <= ownOpen + kept,
        peerUnanswered >= 0 && peerUnanswered <= peerOpen,
        live + this.#queued.size <= openedCount - failedCount,
      );
    }
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

function reasonOf(payload: Buffer, name: string): VproxyError {
  const { code, message } = decodeReasonPayload(payload, name);
  return new VproxyError(code, message);
}

interface RetractionsState {
  /** When bytes last came from the peer. */
  heardAtMs: number;
  keptCount: number;
  readonly bucket: TokenBucketState;
}

/**
 * Counts the streams that this side opened and reset before an answer; those beyond the rate keep their slots as unanswered
 * streams, so that fewer are opened and the peer does not detect a flood (R-FLOW-6).
 */
class Retractions {
  readonly #clock: Clock;
  readonly #ask: () => void;
  readonly #bucket: TokenBucket;
  readonly #state: Omit<RetractionsState, 'bucket'>;
  #cancelAsking: CancelTimer | null = null;

  /** `ask` makes the peer send something. */
  constructor(clock: Clock, ask: () => void, state?: RetractionsState) {
    this.#clock = clock;
    this.#ask = ask;
    this.#state = state ?? { heardAtMs: clock.now(), keptCount: 0 };
    this.#bucket = new TokenBucket(PER_SECOND, BURST, this.#state.heardAtMs, state?.bucket);
  }

  get state(): RetractionsState {
    return { ...this.#state, bucket: this.#bucket.state };
  }

  /** Slots that are kept. */
  get keptCount(): number {
    return this.#state.keptCount;
  }

  goOn(): void {
    if (this.isWaiting) this.#askLater();
  }

  /** Whether slots are kept, so that `handleReceived` has work to do. */
  get isWaiting(): boolean {
    return this.#state.keptCount > 0;
  }

  /** Counts one more. Returns true if its slot is free at once. */
  add(): boolean {
    if (this.#bucket.take(this.#state.heardAtMs)) return true;
    this.#state.keptCount += 1;
    if (this.#cancelAsking === null) this.#askLater();
    return false;
  }

  /** Bytes came from the peer, so it has made progress. Returns the number of slots that are free now. */
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

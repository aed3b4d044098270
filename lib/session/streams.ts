/** The streams of a session: their ids, their bounds, and the opens that are held back (R-STREAM-1, R-STREAM-5, R-STREAM-6, R-STREAM-11). */

import { type Limits, SERVICE_NAME } from '../codec/limits.js';
import { VproxyError } from '../errors.js';
import { TokenBucket } from '../util/bounds.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import type { SessionStream } from './stream.js';

const MAX_ID = 0xffff_ffff;

export class StreamTable {
  readonly #peerLimits: Limits;
  readonly #ownLimits: Limits;
  readonly #isCongested: () => boolean;
  readonly #live = new Map<number, SessionStream>();
  readonly #held = new Set<SessionStream>();
  #nextOwnId: number;
  #lastPeerId = 0;
  #ownOpen = 0;
  #ownUnanswered = 0;
  #peerOpen = 0;
  #peerUnanswered = 0;

  /** `firstId` is this side's first stream id: odd or even decides the parity of both sides. */
  constructor(options: {
    readonly firstId: number;
    readonly peerLimits: Limits;
    readonly ownLimits: Limits;
    /** Whether the channel is too far behind for more opens. */
    readonly isCongested: () => boolean;
  }) {
    this.#isCongested = options.isCongested;
    this.#nextOwnId = options.firstId;
    this.#peerLimits = options.peerLimits;
    this.#ownLimits = options.ownLimits;
  }

  /** Streams that have an id and are not over. */
  get size(): number {
    return this.#live.size;
  }

  /** The highest id that the peer used. */
  get lastPeerId(): number {
    return this.#lastPeerId;
  }

  /** Whether this side has no stream id left. */
  get isExhausted(): boolean {
    return this.#nextOwnId > MAX_ID;
  }

  /** The live stream of an id; null for one that has ended. Throws `protocol-error` for one that was never opened. */
  find(id: number, what: string): SessionStream | null {
    const stream = this.#live.get(id);
    if (stream !== undefined) return stream;
    const wasOpened = this.#isOwnId(id) ? id < this.#nextOwnId : id <= this.#lastPeerId;
    if (!wasOpened) throw new VproxyError('protocol-error', `${what} on stream ${id}, which was never opened`);
    return null;
  }

  list(): SessionStream[] {
    return [...this.#live.values(), ...this.#held];
  }

  /** Takes up a stream of this side: with the next id, or held back until the peer's bounds let it through. */
  addOwn(stream: SessionStream): void {
    this.#held.add(stream);
    this.releaseHeld();
  }

  /** Opens what the peer's bounds let through. */
  releaseHeld(): void {
    for (const stream of this.#held) {
      if (!this.#canOpen()) return;
      this.#held.delete(stream);
      const id = this.#nextOwnId;
      this.#nextOwnId += 2;
      this.#live.set(id, stream);
      this.#ownOpen += 1;
      this.#ownUnanswered += 1;
      stream.begin(id);
    }
  }

  /** Takes the id of a peer's OPEN as used. Throws `protocol-error` for a wrong parity or an id that is not above the last. */
  usePeerId(id: number): void {
    if (this.#isOwnId(id))
      throw new VproxyError('protocol-error', `OPEN with id ${id}, which is of this side's parity`);
    if (id <= this.#lastPeerId)
      throw new VproxyError('protocol-error', `OPEN with id ${id} is not above ${this.#lastPeerId}`);
    this.#lastPeerId = id;
  }

  /** Whether one more stream of the peer stays within what this side announced. */
  get hasPeerRoom(): boolean {
    return this.#peerOpen < this.#ownLimits.streams && this.#peerUnanswered < this.#ownLimits.opens;
  }

  addPeer(id: number, stream: SessionStream): void {
    this.#live.set(id, stream);
    this.#peerOpen += 1;
    this.#peerUnanswered += 1;
    stream.begin(id);
  }

  /** A stream was accepted or refused, or ended without an answer by its peer or with the session. */
  answered(stream: SessionStream): void {
    if (stream.id === 0) return;
    if (stream.isIncoming) this.#peerUnanswered -= 1;
    else this.#ownUnanswered -= 1;
  }

  /** So many streams of this side that were reset before an answer count no longer among the unanswered ones. */
  forgetRetracted(count: number): void {
    this.#ownUnanswered -= count;
  }

  /** A stream is over for the protocol; it keeps its place while bytes of it still drain on this side. */
  over(stream: SessionStream): void {
    if (stream.id === 0) {
      this.#held.delete(stream);
      return;
    }
    this.#live.delete(stream.id);
    if (!stream.isIncoming) this.#ownOpen -= 1;
    else if (!stream.isDraining) this.#peerOpen -= 1;
  }

  /** The last bytes of a stream that was over have left. */
  drained(stream: SessionStream): void {
    if (stream.isIncoming) this.#peerOpen -= 1;
  }

  /** Takes out all opens that are held back. */
  takeHeld(): SessionStream[] {
    const held = [...this.#held];
    this.#held.clear();
    return held;
  }

  #canOpen(): boolean {
    const { streams, opens } = this.#peerLimits;
    return this.#ownOpen < streams && this.#ownUnanswered < opens && !this.isExhausted && !this.#isCongested();
  }

  #isOwnId(id: number): boolean {
    return (id & 1) === (this.#nextOwnId & 1);
  }
}

// Which streams of the peer are let in, and how fast it may take them back (R-STREAM-3, R-STREAM-5, R-FLOW-6).

/** Streams that are opened and reset by their opener before an answer: so many a second, and at once. */
const RESETS_PER_SECOND = 200;
const RESETS_BURST = 1000;

export class Admission {
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #announce: (stream: SessionStream) => void;
  readonly #resets: TokenBucket;

  constructor(options: {
    readonly clock: Clock;
    /** What this side announced. */
    readonly limits: Limits;
    /** Offers a stream to whoever serves it, by attaching a sink during the call. */
    readonly announce: (stream: SessionStream) => void;
  }) {
    this.#clock = options.clock;
    this.#limits = options.limits;
    this.#announce = options.announce;
    this.#resets = new TokenBucket(RESETS_PER_SECOND, RESETS_BURST, options.clock.now());
  }

  /** Announces a stream that the peer has opened, or refuses it. `hasRoom`: it is within the bounds of this side. */
  admit(stream: SessionStream, hasRoom: boolean, isDraining: boolean): void {
    const { service } = stream;
    if (!hasRoom) {
      const { streams, opens } = this.#limits;
      stream.refuse('too-many-streams', `${streams} streams or ${opens} unanswered ones are open`);
    } else if (isDraining) {
      stream.refuse('shutdown', 'the session is ending');
    } else if (!SERVICE_NAME.test(service)) {
      stream.refuse('unknown-service', `${escapeText(service, 64)} is no name of a service`);
    } else {
      this.#announce(stream);
      if (!stream.isAttached) stream.refuse('unknown-service', `service ${service} is not offered`);
    }
  }

  /** Counts a RESET of the peer. Throws `flood` where it takes back too many streams before their answer. */
  countReset(stream: SessionStream): void {
    if (!stream.isIncoming || stream.isAnswered || this.#resets.take(this.#clock.now())) return;
    throw new VproxyError('flood', `more than ${RESETS_PER_SECOND} streams a second are opened and reset`);
  }
}

// The streams that this side opened and reset before an answer: so slowly that its peer finds no flood in them (R-FLOW-6).

/**
 * What the peer bears is 200 a second and 1,000 at once. When it stood still, it finds at once what was sent since: up
 * to a burst before, a burst when it is heard again, and what was unanswered meanwhile (256 where it says nothing else).
 */
const PER_SECOND = 150;
const BURST = 300;

/** While places are kept the peer is asked so often for a sign of life: there may be nothing else to hear from it. */
const ASK_MS = 100;

/** Counts them; what is too fast keeps its place among the unanswered streams, so that fewer are opened. */
export class Retractions {
  readonly #clock: Clock;
  readonly #ask: () => void;
  readonly #bucket: TokenBucket;
  #heardAtMs: number;
  #keptCount = 0;
  #cancelAsking: CancelTimer | null = null;

  /** `ask` makes the peer say something. */
  constructor(clock: Clock, ask: () => void) {
    this.#clock = clock;
    this.#ask = ask;
    this.#heardAtMs = clock.now();
    this.#bucket = new TokenBucket(PER_SECOND, BURST, this.#heardAtMs);
  }

  /** Whether places are kept, so that `handleReceived` has something to do. */
  get isWaiting(): boolean {
    return this.#keptCount > 0;
  }

  /** Counts one more. True when its place is free at once. */
  add(): boolean {
    if (this.#bucket.take(this.#heardAtMs)) return true;
    this.#keptCount += 1;
    if (this.#cancelAsking === null) this.#askLater();
    return false;
  }

  /** Something came from the peer, so it has gone on meanwhile. Gives the number of places that are free now. */
  handleReceived(): number {
    this.#heardAtMs = this.#clock.now();
    let freeCount = 0;
    while (freeCount < this.#keptCount && this.#bucket.take(this.#heardAtMs)) freeCount += 1;
    this.#keptCount -= freeCount;
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

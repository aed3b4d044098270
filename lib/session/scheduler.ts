/**
 * Decides what goes to the channel next: control first, then one DATA frame of each stream in turn, as much as the channel
 * and the credits take (R-FLOW-2, R-FLOW-6 to R-FLOW-8).
 */
import { type ByteSink, FrameWriter, type FrameWriterState } from '../codec/frame-writer.js';
import type { DataCheck } from '../codec/header.js';
import { HEADER_BYTES } from '../codec/limits.js';
import { toVproxyError, type VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import { ControlQueue, type ControlQueueState, type Creditor } from './control-queue.js';

/** A member of a row of those that wait for their turn. */
export interface RowMember {
  readonly id: number;
  /** The next one in turn, and whether it has a turn: so that joining and leaving the row cost no memory. */
  nextReady: RowMember | null;
  isReady: boolean;
}

/** A stream, as far as its turn to send is concerned. */
export interface Scheduled extends Creditor, RowMember {
  /** DATA frames of less than 1,024 bytes that went out last, one after the other (R-FLOW-8). */
  smallFrames: number;
  /** Whether it is a flow of datagrams, all of which have one turn together (R-FLOW-8). */
  readonly isDatagram: boolean;
  /** How much could be sent now, in bytes, were it not for the session's credit. */
  readonly sendableBytes: number;
  /** Sends one frame of at most `maxBytes`; the number of bytes sent. Called where `sendableBytes` is above 0. */
  sendFrame(writer: FrameWriter, maxBytes: number): number;
  /** After `sendFrame`, where nothing more can be sent now. */
  handleTurnEnd(): void;
  /** Where only the pace holds back what waits, it goes on by itself. */
  awaitPace(): void;
}

/** DATA frames beside an interactive stream are cut to this many bytes, so that its next byte is soon written. */
const CUT_FRAME_BYTES = 32_768;

/** On channels with small frames (serial lines) every DATA frame is cut to this many bytes. */
const SMALL_FRAME_BYTES = 1024;

/** A channel whose largest frame is at most this has small frames. */
const SMALL_CHANNEL_BYTES = 4096;

/** DATA is written while less than this waits unwritten in the channel: as a rule, and beside an interactive stream. */
const HIGH_WATER_BYTES = 131_072;
const CUT_HIGH_WATER_BYTES = 65_536;

/**
 * A stream that sent this number of frames below this size in a row is taken for an interactive one, for this time
 * or until a larger one. One is not enough: it may be a request, or the rest of a transfer.
 */
const INTERACTIVE_FRAMES = 2;
const INTERACTIVE_BYTES = 1024;
const INTERACTIVE_MS = 1000;

interface SchedulerOptions {
  readonly sink: ByteSink;
  readonly check: DataCheck;
  readonly clock: Clock;
  /** The largest DATA payload that both sides take, in bytes. */
  readonly maxFrameBytes: number;
  /** The first credit of the session, in bytes. */
  readonly creditBytes: number;
  /** Streams that are open now: they bound how many control frames may wait. */
  readonly openStreams: () => number;
  /** More control frames wait than may: the session has to end. */
  readonly onFlood: (reason: VproxyError) => void;
}

/** What a {@link Scheduler} has sent, may send, and has to send. */
export interface SchedulerState {
  readonly writer: FrameWriterState;
  readonly queue: ControlQueueState;
  readonly ready: TurnOrderState;
  /** The newest credit of the session that the peer gave, in bytes. */
  creditBytes: number;
  /** DATA sent in this session, in bytes. */
  sentBytes: number;
  /** The stream that was interactive last, and when; 0 where none is. */
  interactiveId: number;
  interactiveAtMs: number;
  /** Since when something waits, and nothing passes. */
  stalledAtMs: number | null;
  /** All earlier stalls, in milliseconds. */
  stalledMs: number;
}

/** Without what its members have from their own beginnings. */
const newState = (creditBytes: number): Omit<SchedulerState, 'writer' | 'queue' | 'ready'> => ({
  creditBytes,
  sentBytes: 0,
  interactiveId: 0,
  interactiveAtMs: 0,
  stalledAtMs: null,
  stalledMs: 0,
});

/** A wait that is no shorter is a stall, in milliseconds. A channel that is used to the full has shorter ones all the time. */
const LEAST_STALL_MS = 1000;

export class Scheduler {
  readonly #sink: ByteSink;
  readonly #writer: FrameWriter;
  readonly #queue: ControlQueue;
  readonly #options: SchedulerOptions;
  readonly #clock: Clock;
  readonly #maxFrameBytes: number;
  readonly #ready: TurnOrder;
  readonly #state: Omit<SchedulerState, 'writer' | 'queue' | 'ready'>;
  #isHeld = false;
  #isBusy = false;
  #phase: 'running' | 'stopped' | 'written' = 'running';
  /** Called once, together, when the channel has written all. */
  #onDrained: (() => void)[] = [];

  /** With the `state` of another one `resumeTurns` and `resume` are to follow; nothing is written before. */
  constructor(options: SchedulerOptions, state?: SchedulerState) {
    this.#options = options;
    this.#sink = options.sink;
    this.#clock = options.clock;
    this.#maxFrameBytes = options.maxFrameBytes;
    this.#state = state ?? newState(options.creditBytes);
    this.#writer = new FrameWriter(options.sink, options.check, state?.writer);
    this.#queue = new ControlQueue(this.#writer, state?.queue);
    this.#ready = new TurnOrder(state?.ready);
    this.#isHeld = state !== undefined;
  }

  get state(): SchedulerState {
    return { ...this.#state, writer: this.#writer.state, queue: this.#queue.state, ready: this.#ready.state };
  }

  /** Gives those their turns who had one in another process. `find` gives a stream by its id; null for one that is over. */
  resumeTurns(find: (id: number) => Scheduled | null, session: Creditor): void {
    this.#queue.resumeCredits((id) => (id === 0 ? session : find(id)));
    this.#ready.resume(find);
  }

  /** Frames sent, of every type. */
  get sentFrames(): number {
    return this.#writer.state.frameCount;
  }

  /** DATA sent in this session, in bytes. */
  get sentBytes(): number {
    return this.#state.sentBytes;
  }

  /** What the peer's credit leaves to be sent, all streams together, in bytes. */
  get creditLeftBytes(): number {
    return this.#state.creditBytes - this.#state.sentBytes;
  }

  /** What the channel was given and has not written, in bytes. */
  get unwrittenBytes(): number {
    return this.#sink.unwrittenBytes;
  }

  /** Whether no control frame waits, and the channel has written all. */
  get isIdle(): boolean {
    return this.#queue.isEmpty && this.#sink.unwrittenBytes === 0;
  }

  /** Whether the channel is so far behind that no more streams should be opened. */
  get isCongested(): boolean {
    return this.#queue.isCongested;
  }

  /** For how long nothing passed although something waited, in milliseconds; waits of less than a second do not count. */
  get stallMs(): number {
    return this.#state.stalledMs + this.#currentStallMs;
  }

  get #currentStallMs(): number {
    const waitedMs = this.#state.stalledAtMs === null ? 0 : this.#clock.now() - this.#state.stalledAtMs;
    return waitedMs < LEAST_STALL_MS ? 0 : waitedMs;
  }

  /** The largest DATA payload that is good to send on a stream now: small where another stream is interactive. */
  frameBytes(streamId: number): number {
    const max = this.#maxFrameBytes;
    if (max <= SMALL_CHANNEL_BYTES) return Math.min(max, SMALL_FRAME_BYTES);
    return max > CUT_FRAME_BYTES && this.isBesideInteractive(streamId) ? CUT_FRAME_BYTES : max;
  }

  /** Whether a stream is interactive now. */
  get hasInteractive(): boolean {
    return this.#state.interactiveId !== 0 && this.#clock.now() - this.#state.interactiveAtMs < INTERACTIVE_MS;
  }

  /** Whether another stream than this one is. */
  isBesideInteractive(streamId: number): boolean {
    return this.#state.interactiveId !== streamId && this.hasInteractive;
  }

  // ---- what is to be sent ---------------------------------------------------------------------------------------

  /** Sends a control frame, behind those that wait. */
  control(type: number, streamId: number, payload: Buffer): void {
    try {
      this.#queue.add(type, streamId, payload, this.#options.openStreams());
    } catch (error) {
      this.#options.onFlood(toVproxyError(error));
      return;
    }
    this.flush();
  }

  /** The credit of a stream, or of the session, was raised: the peer hears of the newest total. */
  announceCredit(creditor: Creditor): void {
    this.#queue.addCredit(creditor);
    this.flush();
  }

  /** Answers the newest PING. */
  answerPing(payload: Buffer): void {
    this.#queue.addPong(payload);
    this.flush();
  }

  /** Tells the peer how much of what it sent has come: the newest total, before all that waits. */
  acknowledge(totalBytes: number): void {
    this.#queue.addAck(totalBytes);
    this.flush();
  }

  /** Takes up a stream that has data and credit: its `sendFrame` is called, now or when its turn comes. */
  offer(stream: Scheduled): void {
    this.#ready.add(stream);
    this.flush();
  }

  /** The stream is over. */
  forget(stream: Scheduled): void {
    if (this.#state.interactiveId === stream.id) this.#state.interactiveId = 0;
  }

  // ---- when -----------------------------------------------------------------------------------------------------

  /** The peer's CREDIT for the session: a total; one that lowers it is ignored. */
  raiseCredit(totalBytes: number): void {
    if (totalBytes <= this.#state.creditBytes) return;
    this.#state.creditBytes = totalBytes;
    this.flush();
  }

  /** Between `hold` and `resume` nothing is written, so that what belongs together leaves together. */
  hold(): void {
    this.#isHeld = true;
  }

  resume(): void {
    this.#isHeld = false;
    this.flush();
  }

  /** Writes as much as the channel and the credits take. */
  flush(): void {
    if (this.#isHeld || this.#isBusy || this.#phase !== 'running') return;
    this.#isBusy = true;
    const sentBytes = this.#state.sentBytes;
    try {
      while ((this.#queue.isEmpty || this.#queue.flush()) && this.#canSendData()) {
        const stream = this.#ready.shift();
        if (stream === null) break;
        if (stream.sendableBytes > 0) this.#sendFrame(stream);
        else stream.awaitPace();
      }
    } finally {
      this.#isBusy = false;
    }
    if (this.#state.sentBytes > sentBytes) this.#endStall();
    // For the channel to take it, or for the peer to read what it has taken (R-FLOW-5).
    const isWaiting = !this.#queue.isEmpty || !this.#ready.isEmpty;
    if (isWaiting) this.#state.stalledAtMs ??= this.#clock.now();
  }

  /** The channel has written all that it was given: the buffers are free. `flush` is to follow. */
  handleDrain(): void {
    if (this.#phase === 'stopped') this.#phase = 'written';
    this.#endStall();
    this.#callDrained();
  }

  /**
   * Calls back when the channel has written all that it was given, or is gone: buffers are free then. That nothing more
   * is sent frees none: what was handed over goes out as long as the channel is open.
   */
  afterDrain(callback: () => void): void {
    if (this.#phase === 'written' || this.#sink.unwrittenBytes === 0) callback();
    else this.#onDrained.push(callback);
  }

  /** Where what was sent is kept for another link: calls back when all that was sent up to now is free. Else never. */
  afterKept(callback: () => void): void {
    this.#sink.afterKept?.(callback);
  }

  // ---- the end --------------------------------------------------------------------------------------------------

  /** Writes the last frame of the session, behind the control frames that wait: all of them, or those that the channel has room for. */
  writeLast(type: number, payload: Buffer, isBehindAll: boolean): void {
    this.#queue.flush(isBehindAll ? Number.POSITIVE_INFINITY : undefined);
    const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
    this.#writer.put(frame, 0, type, 0, payload);
    this.#sink.write(frame);
  }

  /** Sends nothing any more, and forgets what waits. */
  stop(): void {
    this.#phase = 'stopped';
    this.#endStall();
    this.#queue.clear();
  }

  /** After `stop`: the channel holds nothing of the session any more, written or not. */
  handleClosed(): void {
    this.#phase = 'written';
    this.#callDrained();
  }

  // ---- inside ---------------------------------------------------------------------------------------------------

  #endStall(): void {
    this.#state.stalledMs += this.#currentStallMs;
    this.#state.stalledAtMs = null;
  }

  #canSendData(): boolean {
    if (this.#state.sentBytes >= this.#state.creditBytes || this.#sink.isFull === true) return false;
    const { unwrittenBytes } = this.#sink;
    if (this.#maxFrameBytes <= SMALL_CHANNEL_BYTES) return unwrittenBytes < SMALL_FRAME_BYTES;
    return unwrittenBytes < CUT_HIGH_WATER_BYTES || (unwrittenBytes < HIGH_WATER_BYTES && !this.hasInteractive);
  }

  #sendFrame(stream: Scheduled): void {
    const maxBytes = Math.min(this.frameBytes(stream.id), this.#state.creditBytes - this.#state.sentBytes);
    const bytes = stream.sendFrame(this.#writer, maxBytes);
    this.#state.sentBytes += bytes;
    if (bytes >= INTERACTIVE_BYTES || stream.isDatagram) {
      stream.smallFrames = 0;
      this.forget(stream);
    } else if (++stream.smallFrames >= INTERACTIVE_FRAMES) {
      this.#state.interactiveId = stream.id;
      this.#state.interactiveAtMs = this.#clock.now();
    }
    if (stream.sendableBytes > 0) this.#ready.add(stream);
    else stream.handleTurnEnd();
  }

  /** One that is added meanwhile waits for the next time. */
  #callDrained(): void {
    if (this.#onDrained.length === 0) return;
    const callbacks = this.#onDrained;
    this.#onDrained = [];
    for (const callback of callbacks) callback();
  }
}

/**
 * The number of frames of streams with small ones that go in a row while others wait: about as many bytes as one frame of
 * those is cut to.
 */
const SMALL_TURNS = 32;

/** The turns in a {@link TurnOrder}. */
interface TurnOrderState {
  /** The ids of those in both rows, in order: only while the order is handed over. Flows are not. */
  small: readonly number[];
  others: readonly number[];
  /** Turns that small ones had while others waited. */
  smallTurns: number;
}

/** In the place of all flows, in the row of the others. Its id is no stream's. */
interface FlowsTurn extends RowMember {
  readonly id: 0;
}

/**
 * The streams that have data and credit, in the order of their turns; each is in it once (R-FLOW-7). Those whose newest frames
 * were small go first: a keystroke should not wait for a frame of each transfer. All flows of datagrams together are as one of the
 * others: so a thousand of them take no more from a stream than another stream does.
 */
class TurnOrder {
  readonly #small = new ReadyRow<Scheduled>();
  readonly #others = new ReadyRow<Scheduled | FlowsTurn>();
  readonly #flows = new ReadyRow<Scheduled>();
  readonly #flowsTurn: FlowsTurn = { id: 0, nextReady: null, isReady: false };
  readonly #state: TurnOrderState;

  constructor(state: TurnOrderState = { small: [], others: [], smallTurns: 0 }) {
    this.#state = state;
  }

  get isEmpty(): boolean {
    return this.#small.isEmpty && this.#others.isEmpty;
  }

  get state(): TurnOrderState {
    const others = this.#others.listIds().filter((id) => id !== this.#flowsTurn.id);
    return { ...this.#state, small: this.#small.listIds(), others };
  }

  /** Adds those that had a turn in another one, unless they are over. */
  resume(find: (id: number) => Scheduled | null): void {
    const { small, others } = this.#state;
    for (const [row, ids] of [[this.#small, small] as const, [this.#others, others] as const])
      for (const member of ids.map(find)) if (member !== null) row.add(member);
  }

  /** Adds a member behind those of its kind, unless it has a turn. */
  add(member: Scheduled): void {
    if (member.isReady) return;
    if (member.isDatagram) this.#addFlow(member);
    else (member.smallFrames >= INTERACTIVE_FRAMES ? this.#small : this.#others).add(member);
  }

  #addFlow(member: Scheduled): void {
    this.#flows.add(member);
    if (!this.#flowsTurn.isReady) this.#others.add(this.#flowsTurn);
  }

  /** Takes the one out whose turn it is. */
  shift(): Scheduled | null {
    if (this.#others.isEmpty || (this.#state.smallTurns < SMALL_TURNS && !this.#small.isEmpty)) {
      this.#state.smallTurns = this.#others.isEmpty ? 0 : this.#state.smallTurns + 1;
      return this.#small.shift();
    }
    this.#state.smallTurns = 0;
    const member = this.#others.shift();
    return member === this.#flowsTurn ? this.#shiftFlow() : (member as Scheduled | null);
  }

  #shiftFlow(): Scheduled | null {
    const flow = this.#flows.shift();
    if (!this.#flows.isEmpty) this.#others.add(this.#flowsTurn);
    return flow;
  }
}

/** Streams in a row, joined by themselves. */
class ReadyRow<M extends RowMember> {
  #first: M | null = null;
  #last: M | null = null;

  get isEmpty(): boolean {
    return this.#first === null;
  }

  listIds(): number[] {
    const ids: number[] = [];
    for (let member: RowMember | null = this.#first; member !== null; member = member.nextReady) ids.push(member.id);
    return ids;
  }

  /** Adds a member at the end; it is in no row. */
  add(member: M): void {
    member.isReady = true;
    member.nextReady = null;
    if (this.#last === null) this.#first = member;
    else this.#last.nextReady = member;
    this.#last = member;
  }

  /** Takes the first member out. */
  shift(): M | null {
    const member = this.#first;
    if (member === null) return null;
    this.#first = member.nextReady as M | null;
    if (this.#first === null) this.#last = null;
    member.nextReady = null;
    member.isReady = false;
    return member;
  }
}

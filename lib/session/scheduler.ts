/**
 * Decides what goes to the channel next: control frames first, then one DATA frame of each stream in turn, as far as the channel
 * and the credits allow (R-FLOW-2, R-FLOW-6 to R-FLOW-8).
 */
import { type ByteSink, FrameWriter, type FrameWriterState } from '../codec/frame-writer.js';
import type { ControlType, DataCheck } from '../codec/header.js';
import { HEADER_BYTES } from '../codec/limits.js';
import { toVproxyError, type VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import { assertInvariants } from '../util/invariant.js';
import { ControlQueue, type ControlQueueState, type Creditor } from './control-queue.js';

/** A member of a FIFO of those waiting for their turn. */
export interface RowMember {
  readonly id: number;
  /** The next member, and whether it is in the FIFO: kept here so that joining and leaving allocate nothing. */
  nextInRow: RowMember | null;
  hasTurn: boolean;
}

/** A stream, as seen by the scheduler. */
export interface Scheduled extends Creditor, RowMember {
  /** The number of successive latest DATA frames of less than 1,024 bytes (R-FLOW-8). */
  smallFrames: number;
  /** Whether it is a flow of datagrams; all flows share one turn (R-FLOW-8). */
  readonly isDatagram: boolean;
  /** The bytes that could be sent now, apart from the session's credit. */
  readonly sendableBytes: number;
  /** Sends one frame of at most `maxBytes`. Returns the number of bytes sent. Called only if `sendableBytes` is above 0. */
  sendFrame(writer: FrameWriter, maxBytes: number): number;
  /** Called after `sendFrame` if nothing more can be sent now. */
  handleTurnEnd(): void;
  /** If only the pace holds its bytes back, arranges to continue by itself. */
  awaitPace(): void;
}

/** While another stream is interactive, DATA frames are cut to this many bytes, so that its next byte is written soon. */
const CUT_FRAME_BYTES = 32_768;

/** On channels with small frames (serial lines) every DATA frame is cut to this many bytes. */
const SMALL_FRAME_BYTES = 1024;

/** A channel whose largest frame is at most this has small frames. */
const SMALL_CHANNEL_BYTES = 4096;

/** DATA is written while less than this is unwritten in the channel: normally, and while another stream is interactive. */
const HIGH_WATER_BYTES = 131_072;
const CUT_HIGH_WATER_BYTES = 65_536;

/**
 * A stream whose last frames, this many in a row, were below this size counts as interactive, for this time
 * or until a larger one. A single frame is not enough: it may be a request, or the rest of a transfer.
 */
const INTERACTIVE_FRAMES = 2;
const INTERACTIVE_BYTES = 1024;
const INTERACTIVE_MS = 1000;

interface SchedulerOptions {
  readonly sink: ByteSink;
  readonly check: DataCheck;
  readonly clock: Clock;
  /** The largest DATA payload that both sides accept, in bytes. */
  readonly maxFrameBytes: number;
  /** The initial credit of the session, in bytes. */
  readonly creditBytes: number;
  /** The number of open streams: bounds how many control frames may be queued. */
  readonly openStreams: () => number;
  /** Too many control frames are queued: the session must end. */
  readonly onFlood: (reason: VproxyError) => void;
}

export interface SchedulerState {
  readonly writer: FrameWriterState;
  readonly queue: ControlQueueState;
  readonly ready: TurnOrderState;
  /** The newest credit of the session granted by the peer, in bytes. */
  creditBytes: number;
  /** DATA sent in this session, in bytes. */
  sentBytes: number;
  /** The stream that was last interactive, and when; 0 if none. */
  interactiveId: number;
  interactiveAtMs: number;
  /** Since when bytes wait and nothing is sent. */
  stalledAtMs: number | null;
  /** The sum of all earlier stalls, in milliseconds. */
  stalledMs: number;
}

/** Without the members that have initial states of their own. */
const newState = (creditBytes: number): Omit<SchedulerState, 'writer' | 'queue' | 'ready'> => ({
  creditBytes,
  sentBytes: 0,
  interactiveId: 0,
  interactiveAtMs: 0,
  stalledAtMs: null,
  stalledMs: 0,
});

/** The shortest wait that counts as a stall, in milliseconds. A fully used channel has shorter ones all the time. */
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
  #isCorked = false;
  #isBusy = false;
  #phase: 'running' | 'stopped' | 'written' = 'running';
  /** Called once, together, when the channel has drained. */
  #onDrained: (() => void)[] = [];

  /** With the `state` of another one, call `restoreTurns` and `uncork` next; nothing is written before. */
  constructor(options: SchedulerOptions, state?: SchedulerState) {
    this.#options = options;
    this.#sink = options.sink;
    this.#clock = options.clock;
    this.#maxFrameBytes = options.maxFrameBytes;
    this.#state = state ?? newState(options.creditBytes);
    this.#writer = new FrameWriter(options.sink, options.check, state?.writer);
    this.#queue = new ControlQueue(this.#writer, state?.queue);
    this.#ready = new TurnOrder(state?.ready);
    this.#isCorked = state !== undefined;
  }

  get state(): SchedulerState {
    return { ...this.#state, writer: this.#writer.state, queue: this.#queue.state, ready: this.#ready.state };
  }

  /** Restores the turns of another process. `find` returns a stream by id; null for one that is over. */
  restoreTurns(find: (id: number) => Scheduled | null, session: Creditor): void {
    this.#queue.resumeCredits((id) => (id === 0 ? session : find(id)));
    this.#ready.restore(find);
  }

  /** Frames sent, of every type. */
  get sentFrames(): number {
    return this.#writer.state.frameCount;
  }

  /** DATA sent in this session, in bytes. */
  get sentBytes(): number {
    return this.#state.sentBytes;
  }

  /** The credit that the peer leaves to be sent, all streams together, in bytes. */
  get creditLeftBytes(): number {
    return this.#state.creditBytes - this.#state.sentBytes;
  }

  /** Bytes given to the channel and not yet written. */
  get unwrittenBytes(): number {
    return this.#sink.unwrittenBytes;
  }

  /** Whether no control frame is queued and the channel has drained. */
  get isIdle(): boolean {
    return this.#queue.isEmpty && this.#sink.unwrittenBytes === 0;
  }

  /** Whether the channel is so far behind that no more streams should be opened. */
  get isCongested(): boolean {
    return this.#queue.isCongested;
  }

  /** How long data has waited while nothing was sent, in milliseconds, without waits of less than a second. */
  get stallMs(): number {
    return this.#state.stalledMs + this.#currentStallMs;
  }

  get #currentStallMs(): number {
    const waitedMs = this.#state.stalledAtMs === null ? 0 : this.#clock.now() - this.#state.stalledAtMs;
    return waitedMs < LEAST_STALL_MS ? 0 : waitedMs;
  }

  /** The best DATA payload size for a stream now: small if another stream is interactive. */
  frameBytes(streamId: number): number {
    const max = this.#maxFrameBytes;
    if (max <= SMALL_CHANNEL_BYTES) return Math.min(max, SMALL_FRAME_BYTES);
    return max > CUT_FRAME_BYTES && this.isBesideInteractive(streamId) ? CUT_FRAME_BYTES : max;
  }

  /** Whether a stream is interactive now. */
  get hasInteractive(): boolean {
    return this.#state.interactiveId !== 0 && this.#clock.now() - this.#state.interactiveAtMs < INTERACTIVE_MS;
  }

  /** Whether a stream other than this one is interactive now. */
  isBesideInteractive(streamId: number): boolean {
    return this.#state.interactiveId !== streamId && this.hasInteractive;
  }

  // ---- what to send ---------------------------------------------------------------------------------------------

  /** Sends a control frame, after the queued ones. */
  control(type: ControlType, streamId: number, payload: Buffer): void {
    try {
      this.#queue.add(type, streamId, payload, this.#options.openStreams());
    } catch (error) {
      this.#options.onFlood(toVproxyError(error));
      return;
    }
    this.flush();
  }

  /** Announces the raised credit of a stream or of the session: only the newest total is sent. */
  announceCredit(creditor: Creditor): void {
    this.#queue.addCredit(creditor);
    this.flush();
  }

  /** Answers the newest PING. */
  answerPing(payload: Buffer): void {
    this.#queue.addPong(payload);
    this.flush();
  }

  /** Acknowledges the total received so far: only the newest is sent, ahead of everything queued. */
  acknowledge(totalBytes: number): void {
    this.#queue.addAck(totalBytes);
    this.flush();
  }

  /** Enters a stream that has data and credit: its `sendFrame` is called, now or when its turn comes. */
  offer(stream: Scheduled): void {
    this.#ready.add(stream);
    this.flush();
  }

  forget(stream: Scheduled): void {
    if (this.#state.interactiveId === stream.id) this.#state.interactiveId = 0;
  }

  // ---- when to send ---------------------------------------------------------------------------------------------

  /** Takes the peer's CREDIT for the session, a total; a lower one is ignored. */
  raiseCredit(totalBytes: number): void {
    if (totalBytes <= this.#state.creditBytes) return;
    this.#state.creditBytes = totalBytes;
    this.flush();
  }

  /** Between `cork` and `uncork` nothing is written, so that related frames leave together. */
  cork(): void {
    this.#isCorked = true;
  }

  uncork(): void {
    this.#isCorked = false;
    this.flush();
  }

  /** Writes as much as the channel and the credits allow. */
  flush(): void {
    if (this.#isCorked || this.#isBusy || this.#phase !== 'running') return;
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
    // Waiting for the channel to take it, or for the peer to read what it has (R-FLOW-5).
    const isWaiting = !this.#queue.isEmpty || !this.#ready.isEmpty;
    if (isWaiting) this.#state.stalledAtMs ??= this.#clock.now();
  }

  /** Gives the channel all control frames now; returns whether it has written everything: then it may be closed. */
  flushControl(): boolean {
    this.#queue.flush(Number.POSITIVE_INFINITY);
    return this.#sink.unwrittenBytes === 0;
  }

  /** The channel has written everything it was given: the buffers are free. Call `flush` next. */
  handleDrain(): void {
    if (this.#phase === 'stopped') this.#phase = 'written';
    this.#endStall();
    this.#callDrained();
  }

  /**
   * Calls back when the channel has written everything it was given, or has closed: buffers are free then. Merely stopping
   * frees none: what was handed over is written as long as the channel is open.
   */
  afterDrain(callback: () => void): void {
    if (this.#phase === 'written' || this.#sink.unwrittenBytes === 0) callback();
    else this.#onDrained.push(callback);
  }

  /** Like `afterDrain`; if sent bytes are kept for another link, when the peer has all that was sent so far. */
  afterKept(callback: () => void): void {
    if (this.#sink.afterKept === undefined) this.afterDrain(callback);
    else this.#sink.afterKept(callback);
  }

  // ---- the end --------------------------------------------------------------------------------------------------

  /** Writes the last frame of the session, after all queued control frames, or after those that the channel has room for. */
  writeLast(type: ControlType, payload: Buffer, isBehindAll: boolean): void {
    if (isBehindAll) this.flushControl();
    else this.#queue.flush();
    const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
    this.#writer.put(frame, 0, type, 0, payload);
    this.#sink.write(frame);
  }

  /** Stops sending, and drops what waits. */
  stop(): void {
    this.#phase = 'stopped';
    this.#endStall();
    this.#queue.clear();
  }

  /** After `stop`: the channel no longer holds anything of the session, written or not. */
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
    INVARIANT: assertInvariants(
      'scheduler',
      () => ({ ...this.#state, id: stream.id, bytes, maxBytes }),
      bytes > 0 && bytes <= maxBytes,
      this.#state.sentBytes <= this.#state.creditBytes,
      this.#ready.isConsistent,
    );
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

  /** Callbacks added meanwhile wait for the next drain. */
  #callDrained(): void {
    if (this.#onDrained.length === 0) return;
    const callbacks = this.#onDrained;
    this.#onDrained = [];
    for (const callback of callbacks) callback();
  }
}

/**
 * How many frames of streams with small ones may go in a row while others wait: about as many bytes as one frame of
 * the others is cut to.
 */
const SMALL_TURNS = 32;

interface TurnOrderState {
  /** The ids in both FIFOs, in order: only while the order is handed over. Flows are not included. */
  small: readonly number[];
  others: readonly number[];
  /** Turns given to streams with small frames while others waited. */
  smallTurns: number;
}

/** Represents all flows in the FIFO of the others. Its id is not a stream's. */
interface FlowsTurn extends RowMember {
  readonly id: 0;
}

/**
 * The streams that have data and credit, in the order of their turns; each is in it once (R-FLOW-7). Streams whose latest frames
 * were small go first: a keystroke should not wait for a frame of each transfer. All flows of datagrams share a single turn among
 * the others: a thousand of them take no more from a stream than another stream does.
 */
class TurnOrder {
  readonly #small = new ReadyRow<Scheduled>();
  readonly #others = new ReadyRow<Scheduled | FlowsTurn>();
  readonly #flows = new ReadyRow<Scheduled>();
  readonly #flowsTurn: FlowsTurn = { id: 0, nextInRow: null, hasTurn: false };
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

  /** Whether the flows have a turn exactly while one of them waits. */
  get isConsistent(): boolean {
    return this.#flowsTurn.hasTurn === !this.#flows.isEmpty;
  }

  /** Adds those that had a turn in another order, unless they are over. */
  restore(find: (id: number) => Scheduled | null): void {
    const { small, others } = this.#state;
    for (const [row, ids] of [[this.#small, small] as const, [this.#others, others] as const])
      for (const member of ids.map(find)) if (member !== null) row.add(member);
  }

  /** Adds a member behind those of its kind, unless it already has a turn. */
  add(member: Scheduled): void {
    if (member.hasTurn) return;
    if (member.isDatagram) this.#addFlow(member);
    else (member.smallFrames >= INTERACTIVE_FRAMES ? this.#small : this.#others).add(member);
  }

  #addFlow(member: Scheduled): void {
    this.#flows.add(member);
    if (!this.#flowsTurn.hasTurn) this.#others.add(this.#flowsTurn);
  }

  /** Removes and returns the stream whose turn it is. */
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

/** Intrusive FIFO: members are linked through `nextReady`, so joining allocates nothing. */
class ReadyRow<M extends RowMember> {
  #first: M | null = null;
  #last: M | null = null;

  get isEmpty(): boolean {
    return this.#first === null;
  }

  listIds(): number[] {
    const ids: number[] = [];
    for (let member: RowMember | null = this.#first; member !== null; member = member.nextInRow) ids.push(member.id);
    return ids;
  }

  /** Adds a member that is in no FIFO at the end. */
  add(member: M): void {
    member.hasTurn = true;
    member.nextInRow = null;
    if (this.#last === null) this.#first = member;
    else this.#last.nextInRow = member;
    this.#last = member;
  }

  /** Removes and returns the first member. */
  shift(): M | null {
    const member = this.#first;
    if (member === null) return null;
    this.#first = member.nextInRow as M | null;
    if (this.#first === null) this.#last = null;
    member.nextInRow = null;
    member.hasTurn = false;
    return member;
  }
}

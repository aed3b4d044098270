/**
 * Decides what goes to the channel next: control first, then one DATA frame of each stream in turn, as much as the channel
 * and the credits take (R-FLOW-2, R-FLOW-6 to R-FLOW-8).
 */
import { type ByteSink, FrameWriter, type FrameWriterCapture } from '../codec/frame-writer.js';
import type { DataCheck } from '../codec/integrity.js';
import { HEADER_BYTES } from '../codec/limits.js';
import { toVproxyError, type VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import { ControlQueue, type ControlQueueCapture, type Creditor } from './control-queue.js';

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

/** A {@link Scheduler} as plain data. */
export interface SchedulerCapture {
  readonly writer: FrameWriterCapture;
  readonly queue: ControlQueueCapture;
  readonly ready: TurnOrderCapture;
  readonly creditBytes: number;
  readonly sentBytes: number;
  readonly interactiveId: number;
  /** How long ago that stream was interactive last, in milliseconds. */
  readonly interactiveAgoMs: number;
  /** For how long something waits for the channel now; null where nothing does. */
  readonly stalledForMs: number | null;
  readonly stalledMs: number;
}

/** A wait that is no shorter is a stall, in milliseconds. A channel that is used to the full has shorter ones all the time. */
const LEAST_STALL_MS = 1000;

export class Scheduler {
  readonly #sink: ByteSink;
  readonly #writer: FrameWriter;
  readonly #queue: ControlQueue;
  readonly #options: SchedulerOptions;
  readonly #clock: Clock;
  readonly #maxFrameBytes: number;
  readonly #ready = new TurnOrder();
  #creditBytes: number;
  #sentBytes = 0;
  #isHeld = false;
  #isBusy = false;
  #state: 'running' | 'stopped' | 'written' = 'running';
  #interactiveId = 0;
  #interactiveAtMs = 0;
  /** Since when something waits, and nothing passes. */
  #stalledAtMs: number | null = null;
  #stalledMs = 0;
  /** Called once, together, when the channel has written all. */
  #onDrained: (() => void)[] = [];

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#sink = options.sink;
    this.#clock = options.clock;
    this.#maxFrameBytes = options.maxFrameBytes;
    this.#creditBytes = options.creditBytes;
    this.#writer = new FrameWriter(options.sink, options.check);
    this.#queue = new ControlQueue(this.#writer);
  }

  capture(): SchedulerCapture {
    const nowMs = this.#clock.now();
    return {
      writer: this.#writer.capture(),
      queue: this.#queue.capture(),
      ready: this.#ready.capture(),
      creditBytes: this.#creditBytes,
      sentBytes: this.#sentBytes,
      interactiveId: this.#interactiveId,
      interactiveAgoMs: nowMs - this.#interactiveAtMs,
      stalledForMs: this.#stalledAtMs === null ? null : nowMs - this.#stalledAtMs,
      stalledMs: this.#stalledMs,
    };
  }

  /** Takes what another one had. Nothing is written before `resume`. `find` gives a stream by its id; null for one that is over. */
  restore(capture: SchedulerCapture, find: (id: number) => Scheduled | null, session: Creditor): void {
    const nowMs = this.#clock.now();
    this.hold();
    this.#writer.restore(capture.writer);
    this.#queue.restore(capture.queue, (id) => (id === 0 ? session : find(id)));
    this.#ready.restore(capture.ready, find);
    this.#creditBytes = capture.creditBytes;
    this.#sentBytes = capture.sentBytes;
    this.#interactiveId = capture.interactiveId;
    this.#interactiveAtMs = nowMs - capture.interactiveAgoMs;
    this.#stalledAtMs = capture.stalledForMs === null ? null : nowMs - capture.stalledForMs;
    this.#stalledMs = capture.stalledMs;
  }

  /** Frames sent, of every type. */
  get sentFrames(): number {
    return this.#writer.frameCount;
  }

  /** DATA sent in this session, in bytes. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** What the peer's credit leaves to be sent, all streams together, in bytes. */
  get creditLeftBytes(): number {
    return this.#creditBytes - this.#sentBytes;
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
    return this.#stalledMs + this.#currentStallMs;
  }

  get #currentStallMs(): number {
    const waitedMs = this.#stalledAtMs === null ? 0 : this.#clock.now() - this.#stalledAtMs;
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
    return this.#interactiveId !== 0 && this.#clock.now() - this.#interactiveAtMs < INTERACTIVE_MS;
  }

  /** Whether another stream than this one is. */
  isBesideInteractive(streamId: number): boolean {
    return this.#interactiveId !== streamId && this.hasInteractive;
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
    if (this.#interactiveId === stream.id) this.#interactiveId = 0;
  }

  // ---- when -----------------------------------------------------------------------------------------------------

  /** The peer's CREDIT for the session: a total; one that lowers it is ignored. */
  raiseCredit(totalBytes: number): void {
    if (totalBytes <= this.#creditBytes) return;
    this.#creditBytes = totalBytes;
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
    if (this.#isHeld || this.#isBusy || this.#state !== 'running') return;
    this.#isBusy = true;
    const sentBytes = this.#sentBytes;
    try {
      while (this.#queue.flush() && this.#canSendData()) {
        const stream = this.#ready.shift();
        if (stream === null) break;
        if (stream.sendableBytes > 0) this.#sendFrame(stream);
        else stream.awaitPace();
      }
    } finally {
      this.#isBusy = false;
    }
    if (this.#sentBytes > sentBytes) this.#endStall();
    // For the channel to take it, or for the peer to read what it has taken (R-FLOW-5).
    const isWaiting = !this.#queue.isEmpty || !this.#ready.isEmpty;
    if (isWaiting) this.#stalledAtMs ??= this.#clock.now();
  }

  /** The channel has written all that it was given: the buffers are free. `flush` is to follow. */
  handleDrain(): void {
    if (this.#state === 'stopped') this.#state = 'written';
    this.#endStall();
    this.#callDrained();
  }

  /**
   * Calls back when the channel has written all that it was given, or is gone: buffers are free then. That nothing more
   * is sent frees none: what was handed over goes out as long as the channel is open.
   */
  afterDrain(callback: () => void): void {
    if (this.#state === 'written' || this.#sink.unwrittenBytes === 0) callback();
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
    this.#state = 'stopped';
    this.#endStall();
    this.#queue.clear();
  }

  /** After `stop`: the channel holds nothing of the session any more, written or not. */
  handleClosed(): void {
    this.#state = 'written';
    this.#callDrained();
  }

  // ---- inside ---------------------------------------------------------------------------------------------------

  #endStall(): void {
    this.#stalledMs += this.#currentStallMs;
    this.#stalledAtMs = null;
  }

  #canSendData(): boolean {
    if (this.#sentBytes >= this.#creditBytes || this.#sink.isFull === true) return false;
    const { unwrittenBytes } = this.#sink;
    if (this.#maxFrameBytes <= SMALL_CHANNEL_BYTES) return unwrittenBytes < SMALL_FRAME_BYTES;
    return unwrittenBytes < CUT_HIGH_WATER_BYTES || (unwrittenBytes < HIGH_WATER_BYTES && !this.hasInteractive);
  }

  #sendFrame(stream: Scheduled): void {
    const maxBytes = Math.min(this.frameBytes(stream.id), this.#creditBytes - this.#sentBytes);
    const bytes = stream.sendFrame(this.#writer, maxBytes);
    this.#sentBytes += bytes;
    if (bytes >= INTERACTIVE_BYTES || stream.isDatagram) {
      stream.smallFrames = 0;
      this.forget(stream);
    } else if (++stream.smallFrames >= INTERACTIVE_FRAMES) {
      this.#interactiveId = stream.id;
      this.#interactiveAtMs = this.#clock.now();
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

/** The ids of those in a {@link TurnOrder}, in order. */
interface TurnOrderCapture {
  readonly small: readonly number[];
  readonly others: readonly number[];
  readonly smallTurns: number;
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
  /** Turns that small ones had while others waited. */
  #smallTurns = 0;

  get isEmpty(): boolean {
    return this.#small.isEmpty && this.#others.isEmpty;
  }

  capture(): TurnOrderCapture {
    const others = this.#others.listIds().filter((id) => id !== this.#flowsTurn.id);
    return { small: this.#small.listIds(), others, smallTurns: this.#smallTurns };
  }

  /** What is over has no turn any more; flows are not handed over. */
  restore({ small, others, smallTurns }: TurnOrderCapture, find: (id: number) => Scheduled | null): void {
    for (const [row, ids] of [[this.#small, small] as const, [this.#others, others] as const])
      for (const member of ids.map(find)) if (member !== null) row.add(member);
    this.#smallTurns = smallTurns;
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
    if (this.#others.isEmpty || (this.#smallTurns < SMALL_TURNS && !this.#small.isEmpty)) {
      this.#smallTurns = this.#others.isEmpty ? 0 : this.#smallTurns + 1;
      return this.#small.shift();
    }
    this.#smallTurns = 0;
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

/** Joins a local socket to a stream of a session: bytes, half-close, errors, back-pressure (docs/forwards.md). */

import type net from 'node:net';
import { fromReason, type Reason, toReason } from '../codec/json.js';
import { HEADER_BYTES } from '../codec/limits.js';
import { VproxyError } from '../errors.js';
import type { LocalEnd } from '../session/local-end.js';
import { GIVE_UP_MS, UnreadOutput } from '../session/local-end.js';
import { SENT } from '../session/send-buffer.js';
import type { SessionStream } from '../session/stream.js';
import type { KeepDescriptor, TakeDescriptor } from '../system/descriptors.js';
import { adoptSocket, descriptorOf, hiddenReset, type OnRead, resetSocket } from '../system/sockets/node-sockets.js';
import { ReadTurn } from '../system/sockets/read-turn.js';
import { giveSlab } from '../util/bytes/slabs.js';
import type { Clock } from '../util/clock.js';
import { LoopTurns } from '../util/concurrency.js';
import { describeError } from '../util/escape.js';
import { FrameSlab } from './frame-slab.js';
import type { FilterState, InputFilter } from './input-filter.js';
import { LocalWriter, NOTHING, type WriterState } from './local-writer.js';

/**
 * How much of what a program writes after the peer's STOP is dropped, in addition to as much as the peer sends: a program may read its
 * answer, such as that to a long upload, only after all its output.
 */
export const DROPPED_BYTES = 67_108_864;

/** No window limits how much of many programs is dropped: they share their turns. */
const DROPPING = new LoopTurns();

interface SpliceHooks {
  readonly clock: Clock;
  /** Creates the filter between the stream and the socket, with the state of an earlier one. Default: its bytes pass unchanged. */
  createFilter?(state: FilterState | undefined): InputFilter | null;
  /** The peer accepted the stream: it is open in both directions. */
  onAccept?(): void;
  /** Both stream and socket have closed; called once. Null if both directions ended in order. */
  onDone(reason: VproxyError | null): void;
}

/** State of a {@link Splice} that is handed over, without its stream. */
export interface SpliceState {
  /** Whether the local program has closed its direction. */
  hasEnded: boolean;
  /** Why the peer stopped reading; null while it reads. */
  stopReason: Reason | null;
  /** Whether the stream has ended for the protocol, and the reason if it did not end in order. */
  isStreamOver: boolean;
  endReason: Reason | null;
  /** The index of the socket's descriptor; null if closed. Like the fields below, set only while it is handed over. */
  readonly socket: number | null;
  writer: WriterState;
  /** How many more bytes may be dropped after the peer stopped reading. */
  readonly unreadBytes: number | null;
}

/**
 * The local end of a forward's stream. The socket is read directly into frames and written directly from the channel's
 * read buffer; bytes are copied only if a buffer would otherwise be held up.
 */
export class Splice implements LocalEnd {
  /** Reads the socket; usable from the start. */
  readonly onread: OnRead;
  readonly #hooks: SpliceHooks;
  readonly #state: SpliceState;
  readonly #slab = new FrameSlab();
  readonly #turn = new ReadTurn(() => this.#socket?.resume());
  #stream: SessionStream | null = null;
  #socket: net.Socket | null = null;
  #writer: LocalWriter | null = null;
  /** Set once the peer has stopped reading. */
  #unread: UnreadOutput | null = null;
  #isSocketClosed = false;

  constructor(hooks: SpliceHooks, state: SpliceState = NEW) {
    this.#hooks = hooks;
    this.#state = { ...state };
    this.onread = {
      buffer: () => this.#slab.room(this.#stream?.frameBytes ?? 0),
      callback: (byteCount) => this.#handleRead(byteCount),
    };
  }

  /** Joins the two; the socket reads with `onread`, or will. Called once. */
  join(stream: SessionStream, socket: net.Socket): void {
    this.#join(stream, socket);
    if (this.#state.isStreamOver) resetSocket(socket);
  }

  /** `stream` is null if it has ended and its session no longer has it. */
  #join(stream: SessionStream | null, socket: net.Socket): void {
    const state = this.#state;
    this.#stream = stream;
    this.#socket = socket;
    const filter = this.#hooks.createFilter?.(state.writer.filter ?? undefined) ?? null;
    this.#writer = new LocalWriter(socket, (bytes) => stream?.release(bytes), filter, state.writer);
    // Until then its bytes may be handed over to another local end.
    if (stream?.isIncoming === true && !stream.isAnswered) this.#writer.hold();
    const handleEnd = (): void => {
      const failure = hiddenReset(socket);
      state.hasEnded = failure === null;
      if (failure === null) stream?.finish();
      else socket.destroy(failure);
    };
    socket.on('end', handleEnd);
    // A program on the control socket may have ended while its stream was opened.
    if (socket.readableEnded && !state.hasEnded) handleEnd();
    socket.on('error', (error) => stream?.reset('local-error', `local socket: ${describeError(error)}`));
    socket.on('finish', () => this.#linger());
    socket.on('close', () => this.#handleClose(state.hasEnded && socket.writableFinished));
  }

  // ---- hand-over ------------------------------------------------------------------------------------------------

  /** The state that a successor needs to continue; changes nothing. Null if the socket cannot be handed over. */
  capture(keep: KeepDescriptor): SpliceState | null {
    const socket = this.#socket;
    // No socket: an earlier process closed it, and in order, else nothing of it would be left.
    const isClosed = socket === null && this.#isSocketClosed;
    const writer = isClosed ? { ...NOTHING, isFinished: true } : (this.#writer?.state ?? null);
    if (writer === null) return null;
    const state = { ...this.#state, writer, unreadBytes: this.#unread?.leftBytes ?? null };
    if (socket === null || socket.destroyed) return { ...state, socket: null };
    const fd = descriptorOf(socket);
    return fd === null || socket.readableLength > 0 ? null : { ...state, socket: keep(fd) };
  }

  /**
   * Replaces `join` for a splice with inherited state: attaches to `stream` and joins it (null: it has ended and its session no
   * longer has it). Reads, writes and reports nothing before `goOn`. Returns the socket; null if it is closed.
   */
  joinAgain(stream: SessionStream | null, take: TakeDescriptor): net.Socket | null {
    const { hasEnded, socket: index, stopReason, unreadBytes, writer } = this.#state;
    this.#stream = stream;
    stream?.attach(this);
    if (index === null) return null;
    const sides = { readable: !hasEnded, writable: !writer.isFinished };
    const socket = adoptSocket(take(index), { ...sides, onread: this.onread });
    this.#join(stream, socket);
    if (stopReason !== null) this.#dropUnread(stopReason, socket, unreadBytes);
    return socket;
  }

  /** Starts to read, write and report, after `joinAgain`; the stream already runs. `isHeld`: reading waits for the accept. */
  goOn(isHeld: boolean): void {
    const { endReason, hasEnded, writer } = this.#state;
    const socket = this.#socket;
    this.#state.writer = NOTHING;
    if (writer.takenBytes > 0) this.#stream?.release(writer.takenBytes);
    if (socket === null) {
      this.#handleClose(hasEnded && writer.isFinished);
    } else if (endReason !== null) {
      resetSocket(socket);
    } else {
      this.#writer?.goOn();
      this.#linger();
      // What was read before must be sent first; `handleSent` resumes reading.
      if (!isHeld && !hasEnded && this.#stream?.isWaiting !== true) socket.resume();
    }
  }

  /** This side has accepted the stream. */
  handleAnswered(): void {
    this.#writer?.release();
  }

  listHeld(): readonly Buffer[] {
    return this.#writer?.listHeld() ?? [];
  }

  // ---- for the stream -------------------------------------------------------------------------------------------

  handleAccept(): void {
    this.#hooks.onAccept?.();
  }

  handleData(bytes: Buffer): boolean {
    return this.#writer?.write(bytes) ?? false;
  }

  handleFin(): void {
    this.#writer?.end();
  }

  /**
   * The peer no longer reads what the local program writes. Node cannot close only the reading half of a socket, and a reset
   * could destroy an answer still on its way to the program. So its output is read and dropped, within bounds.
   */
  handleStop(reason: VproxyError): void {
    this.#slab.returned(false);
    const socket = this.#socket;
    if (socket === null) return;
    this.#state.stopReason = toReason(reason);
    this.#dropUnread(reason, socket, null);
    socket.resume();
  }

  #dropUnread(reason: Reason, socket: net.Socket, leftBytes: number | null): void {
    const stream = this.#stream;
    this.#unread = new UnreadOutput({
      clock: this.#hooks.clock,
      leftBytes: leftBytes ?? DROPPED_BYTES,
      receivedBytes: () => stream?.receivedBytes ?? 0,
      goOn: () => socket.resume(),
      giveUp: () => {
        stream?.reset(reason.code, 'the local program keeps writing output that no one reads');
        resetSocket(socket);
      },
    });
  }

  /** Has a program that keeps its side open, after the peer's STOP, closed some time after its answer and the stream. */
  #linger(): void {
    const socket = this.#socket;
    if (this.#unread === null || socket?.writableFinished !== true || !this.#state.isStreamOver) return;
    socket.once(
      'close',
      this.#hooks.clock.schedule(GIVE_UP_MS, () => socket.destroy()),
    );
  }

  handleSent(isFree: boolean): void {
    this.#handBack(isFree);
    this.#socket?.resume();
  }

  /** Ends both the stream and the socket now. */
  reset(code: string, message: string): void {
    this.#stream?.reset(code, message);
    if (this.#socket !== null) resetSocket(this.#socket);
  }

  handleEnd(reason: VproxyError | null): void {
    this.#state.isStreamOver = true;
    this.#state.endReason = toReason(reason);
    if (reason !== null && this.#socket !== null) resetSocket(this.#socket);
    else this.#linger();
    this.#finishIfDone();
  }

  #handleRead(byteCount: number): boolean {
    const stream = this.#stream;
    if (this.#unread !== null) {
      this.#slab.take(byteCount);
      this.#slab.returned(true);
      if (!this.#unread.drop(byteCount)) return false;
      const turn = DROPPING.nextTurn();
      void turn?.then(() => this.#socket?.resume());
      return turn === null;
    }
    if (stream === null) return false;
    const sent = stream.send(this.#slab.take(byteCount), HEADER_BYTES, HEADER_BYTES + byteCount, true);
    if (sent !== SENT.WAITING) this.#handBack(sent === SENT.FREE);
    // If the frame waits for the channel, reading continues once it has been sent.
    return sent !== SENT.WAITING && !this.#turn.isOver(byteCount, this.#slab.wasFull, stream.isBesideInteractive);
  }

  /** What was read has been sent. A large slab that the session keeps is reused once the peer has its bytes. */
  #handBack(isFree: boolean): void {
    const kept = this.#slab.returned(isFree);
    if (kept !== null) this.#stream?.afterKept(() => giveSlab(kept));
  }

  #handleClose(isOrderly: boolean): void {
    this.#unread?.stop();
    // What was read may still wait for the channel; an orderly end lets it go out.
    if (!isOrderly) this.#stream?.reset('local-error', 'the local socket was closed');
    // Set this only now: the reset above may end the stream, which must not report that both have closed.
    this.#isSocketClosed = true;
    this.#finishIfDone();
  }

  #finishIfDone(): void {
    const { endReason, isStreamOver } = this.#state;
    if (isStreamOver && this.#isSocketClosed) this.#hooks.onDone(fromReason(endReason));
  }
}

const NEW: SpliceState = {
  hasEnded: false,
  stopReason: null,
  isStreamOver: false,
  endReason: null,
  socket: null,
  writer: NOTHING,
  unreadBytes: null,
};

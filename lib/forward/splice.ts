/** Joins a local socket to a stream of a session: bytes, half-close, errors, back-pressure (docs/forwards.md). */

import net from 'node:net';
import type { Writable } from 'node:stream';
import { TRAILER_BYTES } from '../codec/header.js';
import { fromReason, type Reason, toReason } from '../codec/json.js';
import { HEADER_BYTES } from '../codec/limits.js';
import { VproxyError } from '../errors.js';
import type { LocalEnd } from '../session/local-end.js';
import { UnreadOutput } from '../session/local-end.js';
import { SENT } from '../session/send-buffer.js';
import type { SessionStream } from '../session/stream.js';
import type { KeepDescriptor, TakeDescriptor } from '../system/descriptors.js';
import {
  adoptSocket,
  descriptorOf,
  hiddenReset,
  type OnRead,
  resetSocket,
  unwrittenBytesOf,
} from '../system/sockets/node-sockets.js';
import { ReadTurn } from '../system/sockets/read-turn.js';
import { DEFAULT_BUFFER_BYTES, enlargeBuffer } from '../system/sockets/socket-buffer.js';
import { ByteQueue, copyAlone, dropView, keepView } from '../util/bytes/byte-queue.js';
import { LastPieces, lastOf } from '../util/bytes/last-pieces.js';
import { giveSlab, SLAB_BYTES, takeSlab } from '../util/bytes/slabs.js';
import type { Clock } from '../util/clock.js';
import { describeError } from '../util/escape.js';

interface SpliceHooks {
  readonly clock: Clock;
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
    this.#writer = new LocalWriter(socket, (bytes) => stream?.release(bytes), state.writer);
    socket.on('end', () => {
      const failure = hiddenReset(socket);
      state.hasEnded = failure === null;
      if (failure === null) stream?.finish();
      else socket.destroy(failure);
    });
    socket.on('error', (error) => stream?.reset('local-error', `local socket: ${describeError(error)}`));
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
      // What was read before must be sent first; `handleSent` resumes reading.
      if (!isHeld && !hasEnded && this.#stream?.isWaiting !== true) socket.resume();
    }
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
      ...(leftBytes !== null && { leftBytes }),
      receivedBytes: () => stream?.receivedBytes ?? 0,
      goOn: () => socket.resume(),
      giveUp: () => {
        stream?.reset(reason.code, 'the local program keeps writing output that no one reads');
        resetSocket(socket);
      },
    });
  }

  handleSent(isFree: boolean): void {
    this.#handBack(isFree);
    this.#socket?.resume();
  }

  handleEnd(reason: VproxyError | null): void {
    this.#state.isStreamOver = true;
    this.#state.endReason = toReason(reason);
    if (reason !== null && this.#socket !== null) resetSocket(this.#socket);
    this.#finishIfDone();
  }

  #handleRead(byteCount: number): boolean {
    const stream = this.#stream;
    if (this.#unread !== null) return this.#unread.drop(byteCount);
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

/** The outstanding work of a {@link LocalWriter}. */
export interface WriterState {
  /** Bytes still to be written, in order. */
  readonly unwritten: readonly Buffer[];
  /** How many further bytes left the process, or were dropped, without being reported yet. */
  readonly takenBytes: number;
  /** Whether EOF follows them, and whether the target has finished already. */
  readonly isEnding: boolean;
  readonly isFinished: boolean;
}

const NOTHING: WriterState = { unwritten: [], takenBytes: 0, isEnding: false, isFinished: false };

const NEW: SpliceState = {
  hasEnded: false,
  stopReason: null,
  isStreamOver: false,
  endReason: null,
  socket: null,
  writer: NOTHING,
  unreadBytes: null,
};

/** Largest batch for one write to the system, so that credit is returned while more waits. */
const WRITE_BYTES = 131_072;

/**
 * The writing side of a local end: a socket, or the standard input of a process. Only one write is outstanding at a time. Data
 * that arrives meanwhile is gathered, so a stream holds about as much memory as it has bytes, whatever frames they came in.
 */
export class LocalWriter {
  readonly #target: Writable;
  readonly #onTaken: (bytes: number) => void;
  readonly #waiting = new ByteQueue();
  /** The latest writes, while the target still holds any of their bytes. */
  #written: LastPieces | null = null;
  #writtenBytes = 0;
  #takenBytes = 0;
  /** How many views the target holds. */
  #views = 0;
  #isEnding: boolean;
  /** Whether its socket buffer was enlarged, which happens when a write does not fit. */
  #isBuffered = false;

  /**
   * `onTaken` gets the number of bytes that have left this process or were dropped. If created with inherited state, call `goOn`
   * afterwards.
   */
  constructor(target: Writable, onTaken: (bytes: number) => void, { unwritten, isEnding } = NOTHING) {
    this.#target = target;
    this.#onTaken = onTaken;
    this.#waiting.restore(unwritten);
    this.#isEnding = isEnding;
    target.once('close', () => this.drop());
  }

  /** Writes bytes, which are lent for the call; returns true if it keeps a view of them. */
  write(bytes: Buffer): boolean {
    const target = this.#target;
    if (target.destroyed || target.writableEnded) {
      this.#onTaken(bytes.length);
      return false;
    }
    if (this.#isWriting) return this.#waiting.push(bytes);
    const isView = keepView(bytes);
    const piece = isView ? bytes : copyAlone(bytes);
    this.#write(piece, isView);
    this.#tellTaken();
    if (target.writableLength === 0) return false;
    this.#keep(piece);
    return isView;
  }

  /** Ends the target after everything that waits. */
  end(): void {
    this.#isEnding = true;
    if (this.#waiting.byteCount === 0) this.#target.end();
  }

  /** Drops everything that waits: the target takes nothing more. */
  drop(): void {
    this.#releaseWritten();
    const bytes = this.#writtenBytes - this.#takenBytes + this.#waiting.byteCount;
    this.#takenBytes = this.#writtenBytes;
    this.#waiting.clear();
    if (bytes > 0) this.#onTaken(bytes);
  }

  /** What a successor has to write instead of this one; changes nothing. Null if it is unknown how much the target has taken. */
  get state(): WriterState | null {
    const target = this.#target;
    const isEnding = this.#isEnding;
    const isFinished = target.writableFinished;
    const heldBytes = this.#writtenBytes - this.#takenBytes;
    if (target.destroyed) {
      return { unwritten: [], takenBytes: heldBytes + this.#waiting.byteCount, isEnding, isFinished };
    }
    const unwrittenBytes = target instanceof net.Socket ? unwrittenBytesOf(target) : null;
    // More than this writer wrote: some of it came from elsewhere, such as a preamble.
    if (unwrittenBytes === null || unwrittenBytes > heldBytes) return null;
    const written = lastOf(this.#written, unwrittenBytes);
    if (written === null) return null;
    const unwritten = [...written, ...this.#waiting.list()];
    return { unwritten, takenBytes: heldBytes - unwrittenBytes, isEnding, isFinished };
  }

  /** Writes what the predecessor had not written. */
  goOn(): void {
    if (this.#waiting.byteCount > 0) this.#writeWaiting();
    else if (this.#isEnding && !this.#target.writableEnded) this.#target.end();
  }

  /** Bytes given to it that have not left, as views, in order. */
  listHeld(): Buffer[] {
    const written = lastOf(this.#written, this.#writtenBytes - this.#takenBytes) ?? [];
    return [...written, ...this.#waiting.list()];
  }

  /** Whether the target still holds a write of ours. Other writes, such as a preamble, do not count. */
  get #isWriting(): boolean {
    return this.#takenBytes < this.#writtenBytes || this.#waiting.byteCount > 0;
  }

  #write(bytes: Buffer, isView: boolean): void {
    if (isView) this.#views += 1;
    this.#writtenBytes += bytes.length;
    this.#target.write(bytes, this.#handleWritten);
  }

  #keep(piece: Buffer): void {
    this.#written ??= new LastPieces();
    this.#written.add(piece);
  }

  readonly #handleWritten = (): void => {
    this.#tellTaken();
    if (this.#waiting.byteCount > 0 && this.#target.writableLength === 0) this.#writeWaiting();
  };

  #writeWaiting(): void {
    const target = this.#target;
    target.cork();
    for (let room = WRITE_BYTES; room > 0; ) {
      const block = this.#waiting.shift();
      if (block === null) break;
      this.#write(block.bytes, block.isView);
      this.#keep(block.bytes);
      room -= block.bytes.length;
    }
    target.uncork();
    if (this.#isEnding && this.#waiting.byteCount === 0) target.end();
    this.#tellTaken();
  }

  /** Returns credit for what the system has taken. */
  #tellTaken(): void {
    const waitingBytes = this.#target.writableLength;
    if (waitingBytes === 0) this.#releaseWritten();
    else if (!this.#isBuffered) this.#buffer();
    const bytes = this.#writtenBytes - waitingBytes - this.#takenBytes;
    if (bytes <= 0) return;
    this.#takenBytes += bytes;
    this.#onTaken(bytes);
  }

  /** Enlarges the socket buffer. Before the connect, waiting bytes do not mean that the buffer is full. */
  #buffer(): void {
    const target = this.#target;
    if (!(target instanceof net.Socket) || target.connecting) return;
    this.#isBuffered = true;
    void enlargeBuffer(target, DEFAULT_BUFFER_BYTES);
  }

  #releaseWritten(): void {
    for (; this.#views > 0; this.#views -= 1) dropView();
    this.#written = null;
  }
}

/** An idle socket keeps a small slab, since 10,000 of them cost memory; for bulk data it grows to the largest read. */
const SMALL_BYTES = 512;
const LARGE_BYTES = SLAB_BYTES - HEADER_BYTES - TRAILER_BYTES;
/** Growth factor: four full reads lead from small to large. */
const GROWTH = 4;

/** The large slab is released after this many reads in a row that would have fitted a small one. */
const SMALL_READS = 32;

const newSlab = (bytes: number): Buffer => (bytes === SLAB_BYTES ? takeSlab() : Buffer.allocUnsafeSlow(bytes));

/**
 * Memory to read a socket into, with room for a header in front and a trailer behind, sized by how much the socket delivers.
 *
 * One slab is being read into; another that waits to be sent is kept and reused afterwards. So a socket costs at most two
 * slabs, and nothing is allocated while the channel keeps up.
 */
class FrameSlab {
  #sizeBytes = SMALL_BYTES;
  #slab: Buffer | null = null;
  #taken: Buffer | null = null;
  #spare: Buffer | null = null;
  #view: Buffer | null = null;
  #smallReads = 0;
  /** Whether the last read filled its room. */
  wasFull = false;

  /** The room for the next read, behind the header: up to `maxBytes` (0: no limit). */
  room(maxBytes: number): Buffer {
    const bytes = maxBytes > 0 ? Math.min(this.#sizeBytes, maxBytes) : this.#sizeBytes;
    const slabBytes = this.#slabBytes;
    if (this.#slab === null) {
      this.#slab = this.#spare?.length === slabBytes ? this.#spare : newSlab(slabBytes);
      this.#spare = null;
      this.#view = null;
    }
    if (this.#view?.length !== bytes) {
      this.#view = this.#slab.subarray(HEADER_BYTES, HEADER_BYTES + bytes);
    }
    return this.#view;
  }

  /** Takes the slab in whose room `byteCount` bytes were read. Call `returned` when it has been sent. */
  take(byteCount: number): Buffer {
    const slab = this.#slab as Buffer;
    this.wasFull = byteCount === this.#view?.length;
    this.#adapt(byteCount);
    this.#taken = slab;
    this.#slab = null;
    return slab;
  }

  /** The slab taken last was sent: it is free again, or the channel keeps it. Returns a large one that the channel keeps. */
  returned(isFree: boolean): Buffer | null {
    const taken = this.#taken;
    this.#taken = null;
    if (taken === null) return null;
    if (!isFree) return taken.length === SLAB_BYTES ? taken : null;
    if (taken.length !== this.#slabBytes) return null;
    if (this.#slab === null) this.#slab = taken;
    else this.#spare = taken;
    return null;
  }

  get #slabBytes(): number {
    return HEADER_BYTES + this.#sizeBytes + TRAILER_BYTES;
  }

  #adapt(byteCount: number): void {
    if (this.wasFull && byteCount === this.#sizeBytes) {
      this.#smallReads = 0;
      this.#sizeBytes = Math.min(GROWTH * this.#sizeBytes, LARGE_BYTES);
    } else if (this.#sizeBytes > SMALL_BYTES) {
      this.#smallReads = byteCount <= SMALL_BYTES ? this.#smallReads + 1 : 0;
      if (this.#smallReads < SMALL_READS) return;
      this.#smallReads = 0;
      this.#sizeBytes = SMALL_BYTES;
    }
  }
}

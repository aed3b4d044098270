/** Joins a local socket and a stream of a session: bytes, half-close, errors, back-pressure (docs/forwards.md). */

import net from 'node:net';
import type { Writable } from 'node:stream';
import { TRAILER_BYTES } from '../codec/integrity.js';
import { HEADER_BYTES } from '../codec/limits.js';
import type { VproxyError } from '../errors.js';
import type { LocalEnd } from '../session/local-end.js';
import { UnreadOutput } from '../session/local-end.js';
import { SENT } from '../session/send-buffer.js';
import type { SessionStream } from '../session/stream.js';
import { ReadTurn } from '../system/read-turn.js';
import { DEFAULT_BUFFER_BYTES, enlargeBuffer } from '../system/socket-buffer.js';
import { hiddenReset, type OnRead, resetSocket } from '../system/sockets.js';
import { ByteQueue, copyAlone, dropView, keepView } from '../util/byte-queue.js';
import type { Clock } from '../util/clock.js';
import { giveSlab, SLAB_BYTES, takeSlab } from '../util/slabs.js';

interface SpliceHooks {
  readonly clock: Clock;
  /** The peer accepted the stream: it is open both ways. */
  onAccept?(): void;
  /** Stream and socket are both done with; called once. Null when both directions ended in order. */
  onDone(reason: VproxyError | null): void;
}

/**
 * The local end of a forward's stream. The socket is read straight into frames and written straight from the channel's
 * read buffer; a byte is copied only where a buffer would otherwise be held up.
 */
export class Splice implements LocalEnd {
  /** What the socket is to be read with; usable from the start. */
  readonly onread: OnRead;
  readonly #hooks: SpliceHooks;
  readonly #slab = new FrameSlab();
  readonly #turn = new ReadTurn(() => this.#socket?.resume());
  #stream: SessionStream | null = null;
  #socket: net.Socket | null = null;
  #writer: LocalWriter | null = null;
  #hasEnded = false;
  #endReason: VproxyError | null = null;
  /** Set where the peer reads no more. */
  #unread: UnreadOutput | null = null;
  #isSocketClosed = false;
  #isStreamOver = false;

  constructor(hooks: SpliceHooks) {
    this.#hooks = hooks;
    this.onread = {
      buffer: () => this.#slab.room(this.#stream?.frameBytes ?? 0),
      callback: (byteCount) => this.#handleRead(byteCount),
    };
  }

  /** Joins the two; the socket reads with `onread`, or is about to. Called once. */
  join(stream: SessionStream, socket: net.Socket): void {
    this.#stream = stream;
    this.#socket = socket;
    this.#writer = new LocalWriter(socket, (bytes) => stream.release(bytes));
    socket.on('end', () => {
      const failure = hiddenReset(socket);
      this.#hasEnded = failure === null;
      if (failure === null) stream.finish();
      else socket.destroy(failure);
    });
    socket.on('error', (error) => stream.reset('local-error', `local socket: ${error.message}`));
    socket.on('close', () => this.#handleClose());
    if (this.#isStreamOver) resetSocket(socket);
  }

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
   * Nobody reads what the local program still writes. Node cannot close only the reading half of a socket, and a reset
   * could destroy an answer that is still on its way to the program: so what it writes is read and dropped, within bounds.
   */
  handleStop({ code }: VproxyError): void {
    this.#slab.returned(false);
    const stream = this.#stream;
    const socket = this.#socket;
    if (stream === null || socket === null) return;
    this.#unread = new UnreadOutput({
      clock: this.#hooks.clock,
      receivedBytes: () => stream.receivedBytes,
      goOn: () => socket.resume(),
      giveUp: () => {
        stream.reset(code, 'the local program goes on writing what nobody reads');
        resetSocket(socket);
      },
    });
    socket.resume();
  }

  handleSent(isFree: boolean): void {
    this.#handBack(isFree);
    this.#socket?.resume();
  }

  handleEnd(reason: VproxyError | null): void {
    this.#isStreamOver = true;
    this.#endReason = reason;
    if (reason !== null && this.#socket !== null) resetSocket(this.#socket);
    this.#finishIfDone();
  }

  #handleRead(byteCount: number): boolean {
    const stream = this.#stream;
    if (stream === null) return false;
    if (this.#unread !== null) return this.#unread.drop(byteCount);
    const isFull = this.#slab.isFilledBy(byteCount);
    const sent = stream.send(this.#slab.take(byteCount), HEADER_BYTES, HEADER_BYTES + byteCount, true);
    if (sent !== SENT.WAITING) this.#handBack(sent === SENT.FREE);
    // What waits for the channel is read on when it has been sent.
    return sent !== SENT.WAITING && !this.#turn.isOver(byteCount, isFull, stream.isBesideInteractive);
  }

  /** What was read has been sent. A large slab that the session keeps is read into again when the peer has it. */
  #handBack(isFree: boolean): void {
    const kept = this.#slab.returned(isFree);
    if (kept !== null) this.#stream?.afterKept(() => giveSlab(kept));
  }

  #handleClose(): void {
    this.#unread?.stop();
    const isOrderly = this.#hasEnded && this.#socket?.writableFinished === true;
    // What was read may still wait for the channel: an orderly end lets it go out.
    if (!isOrderly) this.#stream?.reset('local-error', 'the local socket was closed');
    // Only now, so that the end of the stream which this brings about is not the end of both.
    this.#isSocketClosed = true;
    this.#finishIfDone();
  }

  #finishIfDone(): void {
    if (this.#isStreamOver && this.#isSocketClosed) this.#hooks.onDone(this.#endReason);
  }
}

/** What one write to the system is made of at most, so that credit goes back while more waits. */
const WRITE_BYTES = 131_072;

/**
 * The writing side of a local end: a socket, or the standard input of a process. It has one write of ours at a time; what comes
 * meanwhile is gathered, so that what a stream holds takes about the memory of its bytes, whatever frames they came in.
 */
export class LocalWriter {
  readonly #target: Writable;
  readonly #onTaken: (bytes: number) => void;
  readonly #waiting = new ByteQueue();
  #writtenBytes = 0;
  #takenBytes = 0;
  /** The views that the target holds. */
  #views = 0;
  #isEnding = false;
  /** Whether it has the buffer that it gets when a write does not fit. */
  #isBuffered = false;

  /** `onTaken` is told the number of bytes that have left this process, or that nobody takes any more. */
  constructor(target: Writable, onTaken: (bytes: number) => void) {
    this.#target = target;
    this.#onTaken = onTaken;
    target.once('close', () => this.drop());
  }

  /** Writes bytes, which are lent for the call unless it returns true: then a view of them is kept. */
  write(bytes: Buffer): boolean {
    const target = this.#target;
    if (target.destroyed || target.writableEnded) {
      this.#onTaken(bytes.length);
      return false;
    }
    if (this.#isWriting) return this.#waiting.push(bytes);
    const isView = keepView(bytes);
    this.#write(isView ? bytes : copyAlone(bytes), isView);
    this.#tellTaken();
    return isView && target.writableLength > 0;
  }

  /** Ends the target behind what waits. */
  end(): void {
    this.#isEnding = true;
    if (this.#waiting.byteCount === 0) this.#target.end();
  }

  /** Nobody takes anything any more. */
  drop(): void {
    this.#dropViews();
    const bytes = this.#writtenBytes - this.#takenBytes + this.#waiting.byteCount;
    this.#takenBytes = this.#writtenBytes;
    this.#waiting.clear();
    if (bytes > 0) this.#onTaken(bytes);
  }

  /** Whether the target still has a write of ours. What others wrote to it, such as a preamble, is not waited for. */
  get #isWriting(): boolean {
    return this.#takenBytes < this.#writtenBytes || this.#waiting.byteCount > 0;
  }

  #write(bytes: Buffer, isView: boolean): void {
    if (isView) this.#views += 1;
    this.#writtenBytes += bytes.length;
    this.#target.write(bytes, this.#handleWritten);
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
      room -= block.bytes.length;
    }
    target.uncork();
    if (this.#isEnding && this.#waiting.byteCount === 0) target.end();
    this.#tellTaken();
  }

  /** Credit goes back for what the system has taken. */
  #tellTaken(): void {
    const waitingBytes = this.#target.writableLength;
    if (waitingBytes === 0) this.#dropViews();
    else if (!this.#isBuffered) this.#buffer();
    const bytes = this.#writtenBytes - waitingBytes - this.#takenBytes;
    if (bytes <= 0) return;
    this.#takenBytes += bytes;
    this.#onTaken(bytes);
  }

  /** What waits before a socket is connected is no sign of a full one. */
  #buffer(): void {
    const target = this.#target;
    if (!(target instanceof net.Socket) || target.connecting) return;
    this.#isBuffered = true;
    void enlargeBuffer(target, DEFAULT_BUFFER_BYTES);
  }

  #dropViews(): void {
    for (; this.#views > 0; this.#views -= 1) dropView();
  }
}

/** An idle socket keeps this much, as 10,000 of them cost memory; a bulk one grows to the largest read. */
const SMALL_BYTES = 512;
const LARGE_BYTES = SLAB_BYTES - HEADER_BYTES - TRAILER_BYTES;
/** From the one to the other in four reads that were full. */
const GROWTH = 4;

/** After this number of reads in a row that would have fitted a small slab, the large one is let go. */
const SMALL_READS = 32;

const newSlab = (bytes: number): Buffer => (bytes === SLAB_BYTES ? takeSlab() : Buffer.allocUnsafeSlow(bytes));

/**
 * Memory to read a socket into, with room for a header in front and a trailer behind, sized by what the socket has to give.
 *
 * One slab is being read into; while another one waits to be sent it is kept aside and used again afterwards. So a
 * socket costs two slabs at most, and nothing is allocated while the channel keeps up.
 */
class FrameSlab {
  #sizeBytes = SMALL_BYTES;
  #slab: Buffer | null = null;
  #taken: Buffer | null = null;
  #spare: Buffer | null = null;
  #view: Buffer | null = null;
  #smallReads = 0;

  /** Where the next read may put up to `maxBytes` (0: no bound): behind the header. */
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

  /** Whether a read of `byteCount` bytes has filled the room. */
  isFilledBy(byteCount: number): boolean {
    return byteCount === this.#view?.length;
  }

  /** Takes the slab in whose room `byteCount` bytes were read; `returned` tells what became of it. */
  take(byteCount: number): Buffer {
    const slab = this.#slab as Buffer;
    this.#adapt(byteCount);
    this.#taken = slab;
    this.#slab = null;
    return slab;
  }

  /** The slab taken last is done with: free to be used again, or the channel's. A large one that is the channel's is given. */
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
    const readBytes = this.#view?.length ?? 0;
    if (byteCount === readBytes && readBytes === this.#sizeBytes) {
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

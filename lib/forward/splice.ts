/** Joins a local socket and a stream of a session: bytes, half-close, errors, back-pressure (docs/forwards.md). */
import type net from 'node:net';
import { HEADER_BYTES } from '../codec/limits.js';
import type { VproxyError } from '../errors.js';
import { SENT, type SessionStream } from '../session/session-stream.js';
import type { StreamSink } from '../session/stream-sink.js';
import { UnreadOutput } from '../session/unread-output.js';
import type { OnRead } from '../util/buffered-socket.js';
import type { Clock } from '../util/clock.js';
import { hiddenReset } from '../util/hidden-reset.js';
import { resetSocket } from '../util/reset-socket.js';
import { HeadroomSlab } from './headroom-slab.js';
import { LocalWriter } from './local-writer.js';

export interface SpliceHooks {
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
export class Splice implements StreamSink {
  /** What the socket is to be read with; usable from the start. */
  readonly onread: OnRead;
  readonly #hooks: SpliceHooks;
  readonly #slab = new HeadroomSlab(HEADER_BYTES);
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
    this.#slab.returned(isFree);
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
    const sent = stream.send(this.#slab.take(byteCount), HEADER_BYTES, HEADER_BYTES + byteCount, true);
    if (sent === SENT.FREE) this.#slab.returned(true);
    else if (sent === SENT.KEPT) this.#slab.returned(false);
    return sent !== SENT.WAITING;
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

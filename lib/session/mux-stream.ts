/** A session stream as a `stream.Duplex`, for programs and for the built-in services. */

import { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../errors.js';
import { ByteQueue, copyAlone, dropView, keepView } from '../util/bytes/byte-queue.js';
import { type LocalEnd, UnreadOutput } from './local-end.js';
import { SENT } from './send-buffer.js';
import type { Session } from './session.js';
import type { SessionStream } from './stream.js';

type WriteCallback = (error?: Error | null) => void;

/**
 * The readable side stores each piece separately, at a few hundred bytes of memory. It gets this many, plus one for each block
 * that it holds; further short pieces are gathered into blocks first.
 */
const MAX_PIECES = 16;
const BLOCK_BYTES = 4096;

/** Observes the bytes of a stream without taking them. Bytes are valid during the call; must not throw. */
export interface StreamObserver {
  /** Whether it still needs the bytes. */
  readonly isWatching: boolean;
  handleSent(bytes: Buffer): void;
  handleReceived(bytes: Buffer): void;
  /** No more bytes follow. */
  handleClose(): void;
}

/**
 * A stream to a service of the peer, or from the peer. Half-close works both ways: `end()` sends FIN, and the readable side
 * ends with the peer's. `destroy(error)` resets the stream; a reset, a refusal or the end of the session destroys it
 * with a VproxyError that gives the reason. `stop` is emitted, with the reason,
 * when the peer reads no more but may still send: later writes are dropped, up to 256 KiB and as much as the
 * peer sends; a write beyond that waits, and fails after 10 s. Without a listener for `stop`, a write fails at once. A failed
 * write destroys the stream.
 */
export class MuxStream extends Duplex {
  #stream!: SessionStream;
  readonly #session: Session;
  #onWritten: WriteCallback | null = null;
  #onFinished: WriteCallback | null = null;
  #stopReason: VproxyError | null = null;
  /** Whether `stop` is held back until listeners can be attached. */
  #isStopHeld = false;
  /** Set once the peer reads no more and a listener knows it. */
  #unread: UnreadOutput | null = null;
  /** Bytes gathered for the readable side: less than a block. */
  readonly #gathered = new ByteQueue();
  /** The number of pieces in the readable side, and how many of them are views. */
  #pieces = 0;
  #views = 0;
  /** The size of a read by the program that could not be satisfied. */
  #missedBytes = 0;
  /** Received bytes whose credit was not returned. */
  #unreleasedBytes = 0;
  #observer: StreamObserver | null = null;
  #hasFin = false;
  /**
   * Called with what a listener of the program throws; the stream is destroyed with it then. Null: only `error` reports it.
   *
   * @internal
   */
  onListenerFailed: ((error: unknown) => void) | null = null;

  /** `open` gets the stream's sink and returns the session's stream: opened, or incoming and attached. */
  private constructor(session: Session, open: (sink: LocalEnd) => SessionStream) {
    super({ allowHalfOpen: true });
    this.#session = session;
    this.#stream = open(this.#sink());
  }

  /**
   * Opens a stream to a service of the peer; `connect` is emitted when it has accepted. Throws like `Session.open`.
   *
   * @internal
   */
  static open(session: Session, service: string, from: string | null = null): MuxStream {
    return new MuxStream(session, (sink) => session.open(service, from, sink));
  }

  /**
   * Accepts a stream that the session announces. Its reset affects nothing else, even without a listener for `error`.
   *
   * @internal
   */
  static accept(session: Session, stream: SessionStream): MuxStream {
    const mux = new MuxStream(session, (sink) => {
      stream.attach(sink);
      return stream;
    });
    mux.on('error', () => undefined);
    stream.accept();
    return mux;
  }

  /**
   * Holds `stop` back until {@link releaseStop}.
   *
   * @internal
   */
  holdStop(): void {
    this.#isStopHeld = true;
  }

  /** @internal */
  releaseStop(): void {
    this.#isStopHeld = false;
    if (this.#stopReason !== null) this.#tellStop(this.#stopReason);
  }

  /** The service that the stream leads to. */
  get service(): string {
    return this.#stream.service;
  }

  /** The stream's id in its session; 0 while the open waits for its turn. */
  get id(): number {
    return this.#stream.id;
  }

  /** When it was made, by the session's clock. */
  get openedAtMs(): number {
    return this.#stream.openedAtMs;
  }

  /** The origin of the opener's local socket, as claimed by the opener. */
  get from(): string | null {
    return this.#stream.from;
  }

  /**
   * Whether the peer has ended its direction; some of it may be unread.
   *
   * @internal
   */
  get hasFin(): boolean {
    return this.#hasFin;
  }

  /** Payload sent so far, in bytes. */
  get sentBytes(): number {
    return this.#stream.sentBytes;
  }

  /** Payload received so far, in bytes. */
  get receivedBytes(): number {
    return this.#stream.receivedBytes;
  }

  /**
   * Reports everything that passes from now on to an observer as well.
   *
   * @internal
   */
  observe(observer: StreamObserver): void {
    this.#observer = observer;
    this.once('close', () => observer.handleClose());
  }

  /** A listener that throws ends this stream, but not the session or the process. */
  override emit(event: string | symbol, ...facts: unknown[]): boolean {
    // An `error` without a listener is thrown, as by any stream.
    if (event === 'error') return super.emit(event, ...facts);
    return this.#call(() => super.emit(event, ...facts)) ?? true;
  }

  override read(size?: number): unknown {
    if (size !== 0) this.#pushGathered();
    const chunk: unknown = super.read(size);
    const isShort = chunk === null && size !== undefined && size > this.readableLength;
    if (size !== 0) this.#missedBytes = isShort ? size : 0;
    this.#releaseRead();
    return chunk;
  }

  override _read(): void {
    // Bytes come when the peer sends them, within its credit.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: WriteCallback): void {
    this.#observer?.handleSent(chunk);
    if (this.#stopReason !== null && !this.#isStopHeld) {
      if (this.#unread === null) callback(this.#stopReason);
      else if (this.#unread.drop(chunk.length)) callback();
      else this.#onWritten = callback;
      return;
    }
    if (chunk.length === 0) {
      callback();
      return;
    }
    const sent = this.#stream.send(chunk, 0, chunk.length, false);
    if (sent === SENT.WAITING) this.#onWritten = callback;
    else if (sent === SENT.KEPT) this.#session.afterDrain(callback);
    else callback();
  }

  override _final(callback: WriteCallback): void {
    if (this.#stream.finish()) callback();
    else this.#onFinished = callback;
  }

  override _destroy(error: Error | null, callback: WriteCallback): void {
    if (error === null) this.#stream.reset('cancelled', 'the program at the other end closed the stream');
    // Of Node: in most versions `text()` and `for await` of a Duplex destroy it when they have read its end.
    else if (error.name === 'AbortError' && !this.writableEnded) {
      this.#stream.reset('cancelled', 'the program at the other end destroyed the stream before it had ended its side');
    } else {
      const { code, message } = toVproxyError(error, 'cancelled');
      this.#stream.reset(code, message);
    }
    this.#settleWrites(error ?? new VproxyError('cancelled', 'the stream was destroyed'));
    this.#unread?.stop();
    this.#gathered.clear();
    this.#dropViews();
    callback(error);
  }

  #dropUnread(reason: VproxyError): UnreadOutput {
    return new UnreadOutput({
      clock: this.#session.clock,
      receivedBytes: () => this.receivedBytes,
      goOn: () => this.#settleWrites(null),
      giveUp: () => this.#settleWrites(reason),
    });
  }

  #tellStop(reason: VproxyError): void {
    if (this.destroyed) return;
    const isHeard = this.listenerCount('stop') > 0;
    this.emit('stop', reason);
    if (isHeard) this.#unread = this.#dropUnread(reason);
    this.#settleWrites(isHeard ? null : reason);
  }

  #sink(): LocalEnd {
    return {
      handleAccept: () => this.emit('connect'),
      handleData: (bytes) => this.#handleData(bytes),
      handleFin: () => {
        this.#hasFin = true;
        this.#pushGathered();
        this.push(null);
      },
      handleStop: (reason) => {
        this.#stopReason = reason;
        if (!this.#isStopHeld) this.#tellStop(reason);
      },
      handleSent: (isFree) => {
        const onWritten = this.#onWritten;
        this.#onWritten = null;
        if (onWritten !== null) {
          if (isFree) this.#call(onWritten);
          else this.#session.afterDrain(onWritten);
        }
        const onFinished = this.#onFinished;
        this.#onFinished = null;
        if (onFinished !== null) this.#call(onFinished);
      },
      handleEnd: (reason) => {
        if (reason !== null) this.destroy(reason);
      },
    };
  }

  /** Takes received bytes, lent for the call unless it returns true. */
  #handleData(bytes: Buffer): boolean {
    this.#unreleasedBytes += bytes.length;
    this.#observer?.handleReceived(bytes);
    const isView = keepView(bytes);
    if (isView) {
      this.#pushGathered();
      this.#views += 1;
      this.#push(bytes);
    } else if (this.#gathered.byteCount === 0 && this.#pieces < MAX_PIECES + this.readableLength / BLOCK_BYTES) {
      this.#push(copyAlone(bytes));
    } else {
      this.#gathered.pushCopy(bytes);
      const heldBytes = this.readableLength + this.#gathered.byteCount;
      const isAwaited = this.#missedBytes > 0 && heldBytes >= this.#missedBytes;
      if (isAwaited || this.#gathered.byteCount >= BLOCK_BYTES) this.#pushGathered();
    }
    this.#releaseRead();
    return isView;
  }

  #pushGathered(): void {
    if (this.#gathered.byteCount > 0) this.#push(this.#gathered.shiftAll());
  }

  #push(bytes: Buffer): void {
    this.#pieces += 1;
    this.push(bytes);
  }

  /** Calls code of the program: if it throws, this stream ends, not the session. */
  #call<Result>(call: () => Result): Result | undefined {
    try {
      return call();
    } catch (error) {
      this.onListenerFailed?.(error);
      this.destroy(new VproxyError('internal', `a listener of service ${this.service} failed`, { cause: error }));
      return undefined;
    }
  }

  /** Returns credit for what the program has consumed, not for what is buffered here. */
  #releaseRead(): void {
    if (this.readableLength === 0) {
      this.#pieces = 0;
      this.#dropViews();
    }
    // A read larger than the window needs credit for what is buffered here already, or it would wait for ever.
    const heldBytes = this.#missedBytes > 0 ? 0 : this.readableLength + this.#gathered.byteCount;
    const bytes = this.#unreleasedBytes - heldBytes;
    if (bytes <= 0) return;
    this.#unreleasedBytes -= bytes;
    this.#stream.release(bytes);
  }

  #dropViews(): void {
    for (; this.#views > 0; this.#views -= 1) dropView();
  }

  #settleWrites(error: Error | null): void {
    const onWritten = this.#onWritten;
    const onFinished = this.#onFinished;
    this.#onWritten = null;
    this.#onFinished = null;
    // The program may reuse its buffer once it is called back.
    if (onWritten !== null && this.#stream.isLent) this.#session.afterDrain(() => onWritten(error));
    else onWritten?.(error);
    onFinished?.(error);
  }
}

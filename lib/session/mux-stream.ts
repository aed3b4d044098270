/** A stream of a session as a `stream.Duplex`, for programs and for the built-in services. */
import { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../errors.js';
import type { Session } from './session.js';
import { SENT, type SessionStream } from './session-stream.js';
import type { StreamSink } from './stream-sink.js';

type WriteCallback = (error?: Error | null) => void;

/** Bytes up to this size are copied when they are kept: a view would keep the channel's whole read buffer alive. */
const COPY_BYTES = 32_768;

/**
 * One flow to a service of the peer, or from it. Half-close works both ways: `end()` sends FIN, and the readable side
 * ends with the peer's. `destroy(error)` resets the stream; a reset, a refusal or the end of the session destroys it
 * with the VproxyError that says why. `connect` is emitted when the peer has accepted. `stop` is emitted, with the reason,
 * when the peer reads no more but may still send: what is written from then on is dropped; without a listener for it a
 * write fails instead, which destroys the stream.
 */
export class MuxStream extends Duplex {
  #stream!: SessionStream;
  readonly #session: Session;
  #onWritten: WriteCallback | null = null;
  #onFinished: WriteCallback | null = null;
  #stopReason: VproxyError | null = null;
  #isStopHeard = false;
  #pushedBytes = 0;
  #releasedBytes = 0;

  /** `open` gets the stream's sink and comes back with the session's stream: opened, or incoming and attached. */
  private constructor(session: Session, open: (sink: StreamSink) => SessionStream) {
    super({ allowHalfOpen: true });
    this.#session = session;
    this.#stream = open(this.#sink());
  }

  /**
   * Opens a stream to a service of the peer. Throws as `Session.open` does.
   *
   * @internal
   */
  static open(session: Session, service: string, from: string | null = null): MuxStream {
    return new MuxStream(session, (sink) => session.open(service, from, sink));
  }

  /**
   * Accepts a stream that the session announces.
   *
   * @internal
   */
  static accept(session: Session, stream: SessionStream): MuxStream {
    const mux = new MuxStream(session, (sink) => {
      stream.attach(sink);
      return stream;
    });
    stream.accept();
    return mux;
  }

  /** The service that the stream leads to. */
  get service(): string {
    return this.#stream.service;
  }

  /** The stream's id in its session; 0 while the opening waits for its turn. */
  get id(): number {
    return this.#stream.id;
  }

  /** When it was made, by the session's clock. */
  get openedAtMs(): number {
    return this.#stream.openedAtMs;
  }

  /** Where the opener's local socket came from, as it says. */
  get from(): string | null {
    return this.#stream.from;
  }

  /** Payload that was sent so far. */
  get sentBytes(): number {
    return this.#stream.sentBytes;
  }

  /** Payload that came so far. */
  get receivedBytes(): number {
    return this.#stream.receivedBytes;
  }

  override read(size?: number): unknown {
    const chunk: unknown = super.read(size);
    // A program that waits for more than a window gets credit for what lies here already, or it would wait for ever.
    const isShort = chunk === null && size !== undefined && size > this.readableLength;
    this.#releaseRead(isShort ? 0 : this.readableLength);
    return chunk;
  }

  override _read(): void {
    // Bytes come when the peer sends them, within its credit.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: WriteCallback): void {
    if (this.#stopReason !== null) {
      callback(this.#isStopHeard ? null : this.#stopReason);
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
    else {
      const { code, message } = toVproxyError(error, 'cancelled');
      this.#stream.reset(code, message);
    }
    this.#settleWrites(error ?? new VproxyError('cancelled', 'the stream was destroyed'));
    callback(error);
  }

  #sink(): StreamSink {
    return {
      handleAccept: () => this.emit('connect'),
      handleData: (bytes) => {
        const isKept = bytes.length > COPY_BYTES;
        this.#pushedBytes += bytes.length;
        this.push(isKept ? bytes : Buffer.from(bytes));
        this.#releaseRead(this.readableLength);
        return isKept;
      },
      handleFin: () => this.push(null),
      handleStop: (reason) => {
        this.#stopReason = reason;
        this.#isStopHeard = this.emit('stop', reason);
        this.#settleWrites(this.#isStopHeard ? null : reason);
      },
      handleSent: (isFree) => {
        const onWritten = this.#onWritten;
        this.#onWritten = null;
        if (onWritten !== null) {
          if (isFree) onWritten();
          else this.#session.afterDrain(onWritten);
        }
        const onFinished = this.#onFinished;
        this.#onFinished = null;
        onFinished?.();
      },
      handleEnd: (reason) => {
        if (reason !== null) this.destroy(reason);
      },
    };
  }

  /** Credit goes back for what the program has taken, not for what lies in the readable side's buffer. */
  #releaseRead(heldBytes: number): void {
    const bytes = this.#pushedBytes - heldBytes - this.#releasedBytes;
    if (bytes <= 0) return;
    this.#releasedBytes += bytes;
    this.#stream.release(bytes);
  }

  #settleWrites(error: Error | null): void {
    const onWritten = this.#onWritten;
    const onFinished = this.#onFinished;
    this.#onWritten = null;
    this.#onFinished = null;
    // The program may use its buffer again when it is called back.
    if (onWritten !== null && this.#stream.isLent) this.#session.afterDrain(() => onWritten(error));
    else onWritten?.(error);
    onFinished?.(error);
  }
}

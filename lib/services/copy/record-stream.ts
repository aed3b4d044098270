/** Both directions of a stream as records: messages in sequence, and the bytes of the tar between them. */
import type { Duplex } from 'node:stream';
import { protocolError, toVproxyError, VproxyError } from '../../errors.js';
import { type Deferred, deferred, LoopTurns } from '../../util/concurrency.js';
import { RecordFlow } from '../record-flow.js';
import { COPY_KIND, decodeError, encodeError } from './copy-messages.js';

export interface CopyRecord {
  readonly kind: number;
  readonly payload: Buffer;
}

/** Bounds on messages waiting for {@link RecordStream.next}; at either, reading pauses. */
const MAX_WAITING = 16;
const MAX_WAITING_BYTES = 262_144;

/** An ended stream cannot be told apart from one that was cut. */
const LOST = 'connection lost before the copy was complete';

export class RecordStream {
  /** Takes the tar's bytes; false stops them until {@link resume}. If it throws, the stream fails. */
  onData: (bytes: Buffer) => boolean = () => {
    throw protocolError('copy: unexpected DATA');
  };
  readonly #stream: Duplex;
  readonly #flow: RecordFlow;
  readonly #waiting: CopyRecord[] = [];
  #waitingBytes = 0;
  #asked: Deferred<CopyRecord> | null = null;
  #failure: VproxyError | null = null;
  #isFailureFromPeer = false;
  #isLost = false;
  /** Whether the tar's bytes must wait. */
  #isPaused = false;
  #drained: Deferred<void> | null = null;

  /** Starts reading the stream; the owner ends it with {@link close} or {@link destroy}. */
  constructor(stream: Duplex) {
    this.#stream = stream;
    const lost = () => this.#lose(new VproxyError('cancelled', LOST));
    const handler = {
      pieces: new Set([COPY_KIND.DATA]),
      onRecord: (kind: number, payload: Buffer) => this.#handleRecord({ kind, payload }),
      onPiece: (_kind: number, bytes: Buffer) => {
        this.#isPaused = !this.onData(bytes);
        if (this.#isPaused) this.#flow.pause();
      },
      isFull: () => this.#isHeld,
      onEnd: lost,
      onError: (error: unknown) => this.fail(toVproxyError(error)),
    };
    this.#flow = new RecordFlow(stream, handler, new LoopTurns());
    stream.on('drain', () => {
      this.#drained?.resolve();
      this.#drained = null;
    });
    stream.on('error', (error) => this.#lose(lostError(error)));
    stream.on('close', () => {
      if (!stream.readableEnded) lost();
    });
  }

  /** The reason why nothing more can be received or sent, or null. */
  get failure(): VproxyError | null {
    return this.#failure;
  }

  /** Whether the error came from the peer, which then need not be sent one. */
  get isFailureFromPeer(): boolean {
    return this.#isFailureFromPeer;
  }

  /** Whether the stream has ended, or this side abandoned it. */
  get isLost(): boolean {
    return this.#isLost;
  }

  /** Whether the stream is gone, even if the copy failed before that. */
  get isClosed(): boolean {
    return this.#stream.destroyed;
  }

  check(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  /** The next message. Rejects with the peer's error, or the reason why the stream ended. */
  next(): Promise<CopyRecord> {
    const record = this.#waiting.shift();
    if (record !== undefined) {
      this.#waitingBytes -= record.payload.length;
      this.#goOn();
      return Promise.resolve(record);
    }
    if (this.#failure !== null) return Promise.reject(this.#failure);
    this.#asked = deferred();
    return this.#asked.promise;
  }

  /** The payload of the next message, which must be of this kind. */
  async expect(expected: number): Promise<Buffer> {
    const { kind, payload } = await this.next();
    if (kind === expected) return payload;
    throw protocolError(`copy: record of kind ${kind}, expected ${expected}`);
  }

  /** Writes; the stream owns the buffer. False when full: wait for {@link drained}. */
  write(bytes: Buffer): boolean {
    return this.#failure !== null || this.#stream.write(bytes);
  }

  /** Resolves when there is room; rejects with the failure. */
  async drained(): Promise<void> {
    this.check();
    if (!this.#stream.writableNeedDrain) return;
    this.#drained ??= deferred();
    await this.#drained.promise;
  }

  async send(bytes: Buffer): Promise<void> {
    this.check();
    if (!this.write(bytes)) await this.drained();
  }

  /** Takes the tar's bytes again. */
  resume(): void {
    this.#isPaused = false;
    this.#goOn();
  }

  /** Rejects everything that waits; sends nothing to the peer. */
  fail(error: VproxyError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#drained?.reject(error);
    this.#drained?.promise.catch(() => undefined);
    this.#drained = null;
    if (this.#waiting.length === 0) this.#asked?.reject(error);
    this.#asked = null;
    this.#flow.stop();
  }

  /** Sends the error, if still possible, and ends this direction. Later input is discarded. */
  close(error: VproxyError | null = null): void {
    if (error !== null && !this.#isFailureFromPeer && this.#stream.writable) this.#stream.write(encodeError(error));
    this.fail(error ?? new VproxyError('cancelled', 'the copy is complete'));
    // The stream may live on for a while. An error whose stack was never formatted retains the objects it passed through, with
    // their lists.
    this.#failure = new VproxyError('cancelled', 'the copy has ended');
    this.#waiting.length = 0;
    this.#stream.end();
  }

  destroy(error: VproxyError): void {
    this.#lose(error);
    this.#stream.destroy(error);
  }

  #lose(error: VproxyError): void {
    if (this.#failure === null) this.#isLost = true;
    this.fail(error);
  }

  get #isHeld(): boolean {
    return this.#isPaused || this.#waiting.length >= MAX_WAITING || this.#waitingBytes >= MAX_WAITING_BYTES;
  }

  #handleRecord(record: CopyRecord): void {
    if (record.kind === COPY_KIND.ERROR) {
      const error = decodeError(record.payload);
      this.#isFailureFromPeer = true;
      this.fail(error);
    } else if (this.#asked !== null) {
      this.#asked.resolve(record);
      this.#asked = null;
    } else {
      this.#waiting.push(record);
      this.#waitingBytes += record.payload.length;
      if (this.#isHeld) this.#flow.pause();
    }
  }

  #goOn(): void {
    if (!this.#isHeld) this.#flow.resume();
  }
}

/** A broken stream leaves its part for a later copy, whatever the reason. */
function lostError(error: Error): VproxyError {
  const { code, message } = toVproxyError(error, 'cancelled');
  return new VproxyError(code, `${LOST}: ${message}`, { cause: error });
}

/** A link over any `stream.Duplex` that carries bytes: for programs that have a channel of their own. */
import type { Duplex } from 'node:stream';
import { systemCode, VproxyError } from '../errors.js';
import { type CancelTimer, type Clock, systemClock } from '../util/clock.js';
import { describeError } from '../util/escape.js';
import type { Link, LinkHandler } from './link.js';

/** Owns the Duplex from the first call on. What is written to it is copied, because a Duplex may hand buffers on as they are. */
export class DuplexLink implements Link {
  readonly description: string;
  readonly #duplex: Duplex;
  readonly #clock: Clock;
  #handler: LinkHandler | null = null;
  /** Why it ends; null while it is open. */
  #reason: VproxyError | null = null;
  #isOver = false;
  #isPaused = false;
  #awaitsDrain = false;
  #cancelClose: CancelTimer | null = null;

  /** `description` is what messages call it. Throws `bad-argument` where the Duplex carries objects or texts, or is over. */
  constructor(description: string, duplex: Duplex, clock: Clock = systemClock) {
    this.description = description;
    this.#duplex = duplex;
    this.#clock = clock;
    requireBytes(description, duplex);
    // Stays for good: an error that comes late must not end the process.
    duplex.on('error', (error) => this.#finish(this.#failure(error)));
    duplex.on('end', () => this.#handleEnd());
    duplex.on('close', () => this.#finish(this.#closed()));
  }

  get unwrittenBytes(): number {
    return this.#isOver ? 0 : this.#duplex.writableLength;
  }

  start(handler: LinkHandler): void {
    this.#handler = handler;
    queueMicrotask(() => {
      if (this.#isOver) this.#report();
      else this.#read();
    });
  }

  pause(): void {
    this.#isPaused = true;
    this.#duplex.pause();
  }

  resume(): void {
    this.#isPaused = false;
    if (!this.#isOver) this.#duplex.resume();
  }

  /** Once the link is closing, what is written is dropped. */
  write(bytes: Buffer): boolean {
    return this.#write(Buffer.from(bytes));
  }

  writePair(first: Buffer, second: Buffer): boolean {
    return this.#write(Buffer.concat([first, second]));
  }

  close(timeoutMs = 500): void {
    if (this.#reason !== null) return;
    this.#reason = this.#shutdown();
    this.#cancelClose = this.#clock.schedule(timeoutMs, () => this.destroy());
    // As with a socket: the other side's end is waited for, where there may be one, so that it hears the last words.
    this.#duplex.end(() => {
      if (this.#handler === null || this.#duplex.readableEnded) this.destroy();
    });
  }

  destroy(): void {
    this.#reason ??= this.#shutdown();
    // What a socket would have taken already is no different here.
    this.#duplex.uncork();
    this.#finish(this.#reason);
  }

  #read(): void {
    this.#duplex.on('data', (chunk: Buffer) => {
      // Of what is being closed only the end is waited for. A chunk is the reader's for good, so it may be kept or not.
      if (this.#reason === null) this.#handler?.onBytes(chunk);
    });
    if (this.#isPaused) this.#duplex.pause();
  }

  #write(bytes: Buffer): boolean {
    if (this.#reason !== null) return true;
    // A Duplex in memory may come back with the answer from within a write, when the session is not ready for it.
    if (this.#duplex.writableCorked === 0) {
      this.#duplex.cork();
      queueMicrotask(() => this.#duplex.uncork());
    }
    this.#duplex.write(bytes, this.#written);
    if (this.#duplex.writableLength === 0) return true;
    this.#awaitsDrain = true;
    return false;
  }

  readonly #written = (): void => {
    if (!this.#awaitsDrain || this.#duplex.writableLength > 0 || this.#reason !== null) return;
    this.#awaitsDrain = false;
    this.#handler?.onDrain();
  };

  /** The other side ended. What is still to be written goes out first where this side is closing anyway. */
  #handleEnd(): void {
    if (this.#reason === null || this.#duplex.writableFinished) this.#finish(this.#closed());
  }

  #finish(reason: VproxyError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#reason ??= reason;
    this.#cancelClose?.();
    this.#duplex.destroy();
    if (this.#handler !== null) queueMicrotask(() => this.#report());
  }

  #report(): void {
    this.#handler?.onClosed(this.#reason ?? this.#shutdown());
    this.#handler = null;
  }

  #failure(error: Error): VproxyError {
    const isGone = ['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE'].includes(systemCode(error));
    const what = isGone ? 'was closed by its other end' : 'failed';
    const code = isGone ? 'channel-closed' : 'channel-failed';
    return new VproxyError(code, `${this.description} ${what}: ${describeError(error)}`, { cause: error });
  }

  #closed(): VproxyError {
    return new VproxyError('channel-closed', `${this.description} was closed by its other end`);
  }

  #shutdown(): VproxyError {
    return new VproxyError('shutdown', `${this.description} was closed`);
  }
}

function requireBytes(description: string, duplex: Duplex): void {
  const wrong = (what: string): VproxyError => new VproxyError('bad-argument', `${description}: ${what}`);
  if (duplex.readableObjectMode || duplex.writableObjectMode) throw wrong('it carries objects, not bytes');
  if (duplex.readableEncoding !== null) throw wrong('it has an encoding, so it gives texts, not bytes');
  if (duplex.destroyed || duplex.readableEnded || duplex.writableEnded) throw wrong('it is closed');
}

/** A link over any `stream.Duplex` that carries bytes: for programs that bring their own channel. */
import type { Duplex } from 'node:stream';
import { badArgument, type VproxyError } from '../errors.js';
import { type Clock, systemClock } from '../util/clock.js';
import { BaseLink } from './base-link.js';

/** Owns the Duplex from the first call on. Written bytes are copied, because a Duplex may hand buffers on as they are. */
export class DuplexLink extends BaseLink {
  readonly #duplex: Duplex;

  /** `description` names it in messages. Throws `bad-argument` if the Duplex carries objects or strings, or has ended. */
  constructor(description: string, duplex: Duplex, clock: Clock = systemClock) {
    super(description, clock);
    this.#duplex = duplex;
    requireBytes(description, duplex);
    // Never removed: a late error must not end the process.
    duplex.on('error', (error) => this.fail(this.failure(error)));
    duplex.on('end', () => this.#handleEnd());
    duplex.on('close', () => this.fail(this.closedByPeer()));
  }

  get unwrittenBytes(): number {
    return this.phase === 'closed' ? 0 : this.#duplex.writableLength;
  }

  override pause(): void {
    super.pause();
    this.#duplex.pause();
  }

  /** Drops the bytes once the link is closing. */
  write(bytes: Buffer): boolean {
    return this.#write(Buffer.from(bytes));
  }

  writeParts(parts: readonly Buffer[]): boolean {
    return this.#write(Buffer.concat(parts));
  }

  protected begin(): void {
    this.#duplex.on('data', (chunk: Buffer) => {
      // While closing, only the end matters. The chunk is the reader's for good, so the result of `onBytes` does not.
      if (this.phase === 'open') this.handler?.onBytes(chunk);
    });
    if (this.isPaused) this.#duplex.pause();
  }

  protected readOn(): void {
    this.#duplex.resume();
  }

  protected endTransport(): void {
    // As with a socket: wait for the other side's end, if there may be one, so that it gets the last words.
    this.#duplex.end(() => {
      if (this.handler === null || this.#duplex.readableEnded) this.dropTransport();
    });
  }

  protected dropTransport(): void {
    // A socket would have taken this already.
    this.#duplex.uncork();
    this.#duplex.destroy();
    this.transportGone();
  }

  #write(bytes: Buffer): boolean {
    if (this.phase !== 'open') return true;
    // A Duplex in memory may answer from within a write, when the session is not ready for it.
    if (this.#duplex.writableCorked === 0) {
      this.#duplex.cork();
      queueMicrotask(() => this.#duplex.uncork());
    }
    this.#duplex.write(bytes, this.#written);
    if (this.#duplex.writableLength === 0) return true;
    this.awaitsDrain = true;
    return false;
  }

  readonly #written = (): void => {
    if (this.awaitsDrain && this.#duplex.writableLength === 0) this.drained();
  };

  /** The other side ended. If this side is closing anyway, the rest is still written first. */
  #handleEnd(): void {
    if (this.phase === 'open' || this.#duplex.writableFinished) this.fail(this.closedByPeer());
  }
}

function requireBytes(description: string, duplex: Duplex): void {
  const wrong = (what: string): VproxyError => badArgument(`${description}: ${what}`);
  if (duplex.readableObjectMode || duplex.writableObjectMode) throw wrong('it carries objects, not bytes');
  if (duplex.readableEncoding !== null) throw wrong('it has an encoding, so it yields strings, not bytes');
  if (duplex.destroyed || duplex.readableEnded || duplex.writableEnded) throw wrong('it is closed');
}

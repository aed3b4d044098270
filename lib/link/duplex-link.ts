/** A link over any `stream.Duplex` that carries bytes: for programs that have a channel of their own. */
import type { Duplex } from 'node:stream';
import { badArgument, type VproxyError } from '../errors.js';
import { type Clock, systemClock } from '../util/clock.js';
import { BaseLink } from './base-link.js';

/** Owns the Duplex from the first call on. What is written to it is copied, because a Duplex may hand buffers on as they are. */
export class DuplexLink extends BaseLink {
  readonly #duplex: Duplex;

  /** `description` is what messages call it. Throws `bad-argument` where the Duplex carries objects or texts, or is over. */
  constructor(description: string, duplex: Duplex, clock: Clock = systemClock) {
    super(description, clock);
    this.#duplex = duplex;
    requireBytes(description, duplex);
    // Stays for good: an error that comes late must not end the process.
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

  /** Once the link is closing, what is written is dropped. */
  write(bytes: Buffer): boolean {
    return this.#write(Buffer.from(bytes));
  }

  writeParts(parts: readonly Buffer[]): boolean {
    return this.#write(Buffer.concat(parts));
  }

  protected begin(): void {
    this.#duplex.on('data', (chunk: Buffer) => {
      // Of what is being closed only the end is waited for. A chunk is the reader's for good, so it may be kept or not.
      if (this.phase === 'open') this.handler?.onBytes(chunk);
    });
    if (this.isPaused) this.#duplex.pause();
  }

  protected readOn(): void {
    this.#duplex.resume();
  }

  protected endTransport(): void {
    // As with a socket: the other side's end is waited for, where there may be one, so that it hears the last words.
    this.#duplex.end(() => {
      if (this.handler === null || this.#duplex.readableEnded) this.dropTransport();
    });
  }

  protected dropTransport(): void {
    // What a socket would have taken already is no different here.
    this.#duplex.uncork();
    this.#duplex.destroy();
    this.transportGone();
  }

  #write(bytes: Buffer): boolean {
    if (this.phase !== 'open') return true;
    // A Duplex in memory may come back with the answer from within a write, when the session is not ready for it.
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

  /** The other side ended. What is still to be written goes out first where this side is closing anyway. */
  #handleEnd(): void {
    if (this.phase === 'open' || this.#duplex.writableFinished) this.fail(this.closedByPeer());
  }
}

function requireBytes(description: string, duplex: Duplex): void {
  const wrong = (what: string): VproxyError => badArgument(`${description}: ${what}`);
  if (duplex.readableObjectMode || duplex.writableObjectMode) throw wrong('it carries objects, not bytes');
  if (duplex.readableEncoding !== null) throw wrong('it has an encoding, so it gives texts, not bytes');
  if (duplex.destroyed || duplex.readableEnded || duplex.writableEnded) throw wrong('it is closed');
}

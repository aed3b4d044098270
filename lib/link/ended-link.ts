/** A link whose end needs more than closing a descriptor: a terminal's settings, a child process. */
import type { VproxyError } from '../errors.js';
import type { Link, LinkHandler } from './link.js';

/**
 * A link that, when the one it is made of is gone, calls `finish` with the reason, once, and tells its handler only when
 * that has resolved, with the reason that it gave. `finish` also runs for a link that is closed before it is started.
 */
export class EndedLink implements Link {
  readonly #link: Link;
  readonly #finish: (reason: VproxyError) => Promise<VproxyError>;
  #handler: LinkHandler | null = null;
  #isStarted = false;
  #reason: VproxyError | null = null;

  /** It owns `link`, which is not started yet. */
  constructor(link: Link, finish: (reason: VproxyError) => Promise<VproxyError>) {
    this.#link = link;
    this.#finish = finish;
  }

  get description(): string {
    return this.#link.description;
  }

  get unwrittenBytes(): number {
    return this.#link.unwrittenBytes;
  }

  start(handler: LinkHandler): void {
    this.#handler = handler;
    if (this.#reason !== null) queueMicrotask(() => this.#report());
    else this.#start();
  }

  pause(): void {
    this.#link.pause();
  }

  resume(): void {
    this.#link.resume();
  }

  write(bytes: Buffer): boolean {
    return this.#link.write(bytes);
  }

  writePair(first: Buffer, second: Buffer): boolean {
    return this.#link.writePair(first, second);
  }

  close(timeoutMs?: number): void {
    this.#link.close(timeoutMs);
    this.#start();
  }

  destroy(): void {
    this.#link.destroy();
    this.#start();
  }

  /** A link tells its end only to a handler. */
  #start(): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    this.#link.start({
      onBytes: (bytes) => this.#handler?.onBytes(bytes) ?? false,
      onDrain: () => this.#handler?.onDrain(),
      onClosed: (reason) => {
        void this.#finish(reason).then((told) => {
          this.#reason = told;
          this.#report();
        });
      },
    });
  }

  #report(): void {
    if (this.#reason !== null) this.#handler?.onClosed(this.#reason);
  }
}

/** A handler of a link that keeps what it is told, and can be waited for. */

import type { VproxyError } from '../../lib/errors.js';
import type { LinkHandler } from '../../lib/link/link.js';
import { deferred } from '../../lib/util/concurrency.js';

export class LinkRecorder implements LinkHandler {
  /** The bytes, copied as they came, unless `keeps`: then the link's own buffers. */
  readonly pieces: Buffer[] = [];
  readonly closings: VproxyError[] = [];
  drainCount = 0;
  byteCount = 0;
  readonly #keeps: boolean;
  readonly #closed = deferred<VproxyError>();
  #waits: { readonly isDone: () => boolean; readonly done: () => void }[] = [];

  constructor({ keeps = false } = {}) {
    this.#keeps = keeps;
  }

  onBytes(bytes: Buffer): boolean {
    this.pieces.push(this.#keeps ? bytes : Buffer.from(bytes));
    this.byteCount += bytes.length;
    this.#look();
    return this.#keeps;
  }

  onDrain(): void {
    this.drainCount++;
    this.#look();
  }

  onClosed(reason: VproxyError): void {
    this.closings.push(reason);
    this.#closed.resolve(reason);
  }

  /** Everything that came. */
  get bytes(): Buffer {
    return Buffer.concat(this.pieces);
  }

  /** Resolves with the reason when the link is gone. */
  get closed(): Promise<VproxyError> {
    return this.#closed.promise;
  }

  received(byteCount: number): Promise<void> {
    return this.#until(() => this.byteCount >= byteCount);
  }

  drained(drainCount = 1): Promise<void> {
    return this.#until(() => this.drainCount >= drainCount);
  }

  #until(isDone: () => boolean): Promise<void> {
    const wait = deferred();
    this.#waits.push({ isDone, done: () => wait.resolve() });
    this.#look();
    return wait.promise;
  }

  #look(): void {
    this.#waits = this.#waits.filter((wait) => {
      if (!wait.isDone()) return true;
      wait.done();
      return false;
    });
  }
}

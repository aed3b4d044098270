/**
 * A link over a device for a Node without the handle of `pipe-handle.ts`: it asks the device again and again, each
 * millisecond while bytes flow and up to every 20 ms while none do. Slower, and never quite idle, but made of public parts.
 */
import { closeSync, readvSync } from 'node:fs';
import { systemCode, VproxyError } from '../errors.js';
import { type CancelTimer, type Clock, systemClock } from '../util/clock.js';
import { deviceAccess } from './device-link.js';
import { channelError, type Link, type LinkHandler } from './link.js';
import { ReadSlab } from './read-slab.js';

const SHORTEST_WAIT_MS = 1;
const LONGEST_WAIT_MS = 20;
const SLABS_PER_TURN = 4;

/** A link that polls `fd`, a non-blocking device that it owns. */
export class PollingLink implements Link {
  readonly description: string;
  readonly #fd: number;
  readonly #clock: Clock;
  readonly #slab = new ReadSlab(262_144);
  readonly #device;
  readonly #queue: Buffer[] = [];
  #unwrittenBytes = 0;
  #firstBytes: Buffer | null;
  #handler: LinkHandler | null = null;
  #reason: VproxyError | null = null;
  #isClosed = false;
  #isPaused = false;
  #closesAtMs = Number.POSITIVE_INFINITY;
  #waitMs = SHORTEST_WAIT_MS;
  #cancelTurn: CancelTimer;

  /** `firstBytes` were read before the link was made, and are delivered first. */
  constructor(description: string, fd: number, options: { readonly firstBytes?: Buffer; readonly clock?: Clock } = {}) {
    this.description = description;
    this.#fd = fd;
    this.#device = deviceAccess(fd);
    this.#firstBytes = options.firstBytes ?? null;
    this.#clock = options.clock ?? systemClock;
    this.#cancelTurn = this.#clock.schedule(SHORTEST_WAIT_MS, () => this.#turn());
  }

  get unwrittenBytes(): number {
    return this.#unwrittenBytes;
  }

  start(handler: LinkHandler): void {
    this.#handler = handler;
    if (this.#isClosed) this.#report();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
  }

  /** Once the link is closing, what is written is dropped. */
  write(bytes: Buffer): boolean {
    if (this.#reason !== null) return true;
    const written = this.#queue.length === 0 ? this.#device.writeNow(bytes) : 0;
    if (written === bytes.length) return true;
    this.#queue.push(bytes.subarray(written));
    this.#unwrittenBytes += bytes.length - written;
    return false;
  }

  writePair(first: Buffer, second: Buffer): boolean {
    this.write(first);
    return this.write(second);
  }

  close(timeoutMs = 500): void {
    if (this.#reason !== null) return;
    this.#reason = this.#shutdown();
    this.#closesAtMs = this.#clock.now() + timeoutMs;
    if (this.#unwrittenBytes === 0) this.#finish();
  }

  destroy(): void {
    this.#reason ??= this.#shutdown();
    this.#finish();
  }

  #turn(): void {
    const hasWritten = this.#flush();
    const hasRead =
      this.#isPaused || (this.#reason === null && this.#handler !== null && this.#readSlabs(this.#handler));
    if (this.#isClosed) return;
    if (this.#reason !== null && (this.#unwrittenBytes === 0 || this.#clock.now() >= this.#closesAtMs)) {
      this.#finish();
      return;
    }
    const isBusy = hasRead || hasWritten;
    this.#waitMs = isBusy ? SHORTEST_WAIT_MS : Math.min(this.#waitMs * 2, LONGEST_WAIT_MS);
    this.#cancelTurn = this.#clock.schedule(this.#waitMs, () => this.#turn());
  }

  /** Whether anything was written. */
  #flush(): boolean {
    const before = this.#unwrittenBytes;
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      const written = this.#device.writeNow(first);
      this.#unwrittenBytes -= written;
      if (written < first.length) {
        this.#queue[0] = first.subarray(written);
        break;
      }
      this.#queue.shift();
    }
    if (before > 0 && this.#unwrittenBytes === 0 && this.#reason === null) this.#handler?.onDrain();
    return this.#unwrittenBytes < before;
  }

  /** Whether anything was read. */
  #readSlabs(handler: LinkHandler): boolean {
    const firstBytes = this.#firstBytes;
    this.#firstBytes = null;
    if (firstBytes !== null) handler.onBytes(firstBytes);
    for (let slabs = 0; slabs < SLABS_PER_TURN && this.#isOpen && !this.#isPaused; slabs++) {
      const count = this.#read();
      if (count === 0) return slabs > 0;
      this.#slab.took(count, handler.onBytes(this.#slab.room.subarray(0, count)));
    }
    return true;
  }

  get #isOpen(): boolean {
    return this.#reason === null;
  }

  /** The number of bytes, 0 where there are none now; ends the link where there will be none any more. */
  #read(): number {
    try {
      const count = readvSync(this.#fd, this.#slab.pages(0));
      if (count === 0) this.#fail(new VproxyError('channel-closed', `${this.description} was closed by its other end`));
      return count;
    } catch (error) {
      if (systemCode(error) !== 'EAGAIN') this.#fail(channelError(this.description, error));
      return 0;
    }
  }

  #fail(reason: VproxyError): void {
    this.#reason = reason;
    this.#finish();
  }

  #finish(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelTurn();
    closeSync(this.#fd);
    this.#report();
  }

  #report(): void {
    const reason = this.#reason ?? this.#shutdown();
    const handler = this.#handler;
    if (handler !== null) queueMicrotask(() => handler.onClosed(reason));
  }

  #shutdown(): VproxyError {
    return new VproxyError('shutdown', `${this.description} was closed`);
  }
}

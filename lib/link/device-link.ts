/** A link over a character device, such as a virtio-serial port or a terminal: driven by the event loop, or by polling. */

import { closeSync, readvSync, writeSync } from 'node:fs';
import { systemCode, VproxyError } from '../errors.js';
import type { TakeDescriptor } from '../system/descriptors.js';
import { openPipeHandle, type PipeHandle, pipeSocket, pollAgain } from '../system/handles.js';
import { Backoff, type CancelTimer, type Clock, systemClock } from '../util/clock.js';
import { BaseLink } from './base-link.js';
import { channelError, type LinkHandler, type LinkState } from './link.js';
import { ReadSlab } from './read-slab.js';
import { type DirectAccess, SocketLink, type SocketLinkOptions } from './socket-link.js';

/** 64 pages: the most that one `readv` of a virtio-serial port takes here. */
export const DEVICE_SLAB_BYTES = 262_144;

/**
 * A link over the non-blocking device `fd`, which it takes over. `firstBytes` were read already and are
 * delivered first; the link owns them.
 */
export function openDeviceLink(description: string, fd: number, firstBytes: Buffer | null, clock: Clock): BaseLink {
  const handle = openPipeHandle(fd);
  if (handle === null) return new PollingLink(description, fd, { firstBytes, clock });
  return linkOver(handle, description, { ...deviceOptions(fd, clock), firstBytes });
}

/** The link that a predecessor of this process had over a device. Throws `channel-unusable` if this Node has no handle for it. */
export function restoreDeviceLink(state: LinkState, take: TakeDescriptor, clock: Clock): BaseLink {
  const fd = take(state.descriptors[0] ?? -1);
  return openHandleLink(state.description, fd, { ...deviceOptions(fd, clock), ...state });
}

/** A link over any descriptor that a Node handle takes. It takes `fd` over, unless it throws `channel-unusable`. */
export function openHandleLink(description: string, fd: number, options: SocketLinkOptions = {}): SocketLink {
  const handle = openPipeHandle(fd);
  if (handle === null)
    throw new VproxyError('channel-unusable', `${description}: not supported by this Node (no pipe handle)`);
  return linkOver(handle, description, options);
}

const deviceOptions = (fd: number, clock: Clock): SocketLinkOptions => {
  return { slabBytes: DEVICE_SLAB_BYTES, direct: deviceAccess(fd), clock };
};

function linkOver(handle: PipeHandle, description: string, options: SocketLinkOptions): SocketLink {
  return new SocketLink(description, (onread) => pipeSocket(handle, onread), {
    ...options,
    // Only devices need polling: a socket loses no events.
    ...(options.direct !== undefined && { pollDevice: () => pollAgain(handle) }),
  });
}

/**
 * Direct access to `fd`, with as few system calls as possible. A virtio-serial port returns one page per `read` and takes 32 KiB
 * per `write`, however much is offered; `readv` empties 64 pages in one call. A full or empty queue is not an error, and a real
 * error comes again when the event loop reads or writes.
 */
export function deviceAccess(fd: number): DirectAccess {
  return {
    readNow(pages) {
      try {
        return readvSync(fd, pages);
      } catch {
        return 0;
      }
    },
    writeNow(bytes) {
      let written = 0;
      try {
        while (written < bytes.length) written += writeSync(fd, bytes, written);
      } catch {
        return written;
      }
      return written;
    },
  };
}

/** The interval between polls: the shortest while bytes flow. */
const WAITS = { firstMs: 1, maxMs: 20, jitter: 0 };

/** The number of slabs read in one turn of the event loop. */
const SLABS_PER_TURN = 2;

/**
 * A link that polls `fd`, a non-blocking device that it owns: for a Node without the handle of `system/handles.ts`. Slower,
 * and never quite idle, but built on public APIs only.
 */
export class PollingLink extends BaseLink {
  readonly #fd: number;
  readonly #slab = new ReadSlab(DEVICE_SLAB_BYTES);
  readonly #device: DirectAccess;
  readonly #queue: Buffer[] = [];
  readonly #waits = new Backoff(WAITS);
  #unwrittenBytes = 0;
  #firstBytes: Buffer | null;
  #cancelTurn: CancelTimer | null = null;

  /** `firstBytes` were read before the link was made, and are delivered first. */
  constructor(description: string, fd: number, options: Pick<SocketLinkOptions, 'firstBytes' | 'clock'> = {}) {
    super(description, options.clock ?? systemClock);
    this.#fd = fd;
    this.#device = deviceAccess(fd);
    this.#firstBytes = options.firstBytes ?? null;
    this.#scheduleTurn();
  }

  get unwrittenBytes(): number {
    return this.#unwrittenBytes;
  }

  /** Drops the bytes once the link is closing. */
  write(bytes: Buffer): boolean {
    if (this.phase !== 'open') return true;
    const written = this.#queue.length === 0 ? this.#device.writeNow(bytes) : 0;
    if (written === bytes.length) return true;
    this.#queue.push(bytes.subarray(written));
    this.#unwrittenBytes += bytes.length - written;
    this.awaitsDrain = true;
    return false;
  }

  writeParts(parts: readonly Buffer[]): boolean {
    let isFree = true;
    for (const part of parts) isFree = this.write(part) && isFree;
    return isFree;
  }

  protected begin(): void {
    // Its turns have already begun.
  }

  protected readOn(): void {
    // The next turn reads.
  }

  protected endTransport(): void {
    if (this.#unwrittenBytes === 0) this.dropTransport();
  }

  protected dropTransport(): void {
    if (this.#cancelTurn === null) return;
    this.#cancelTurn();
    this.#cancelTurn = null;
    closeSync(this.#fd);
    this.transportGone();
  }

  #scheduleTurn(): void {
    this.#cancelTurn = this.clock.schedule(this.#waits.next(), () => this.#turn());
  }

  #turn(): void {
    const hasWritten = this.#flush();
    const hasRead = this.isPaused || (this.handler !== null && this.#readSlabs(this.handler));
    if (this.phase === 'closing' && this.#unwrittenBytes === 0) this.dropTransport();
    // This method or the handler dropped the transport.
    if (this.#cancelTurn === null) return;
    if (hasRead || hasWritten) this.#waits.reset();
    this.#scheduleTurn();
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
    if (this.awaitsDrain && this.#unwrittenBytes === 0) this.drained();
    return this.#unwrittenBytes < before;
  }

  /** Whether anything was read. */
  #readSlabs(handler: LinkHandler): boolean {
    if (this.phase !== 'open') return false;
    const firstBytes = this.#firstBytes;
    this.#firstBytes = null;
    if (firstBytes !== null) handler.onBytes(firstBytes);
    for (let slabs = 0; slabs < SLABS_PER_TURN && this.#mayRead; slabs++) {
      const count = this.#read();
      if (count === 0) return slabs > 0;
      this.#slab.took(count, handler.onBytes(this.#slab.room.subarray(0, count)));
    }
    return true;
  }

  get #mayRead(): boolean {
    return this.phase === 'open' && !this.isPaused;
  }

  /** The number of bytes read, 0 if nothing has come; ends the link at EOF or on an error. */
  #read(): number {
    try {
      const count = readvSync(this.#fd, this.#slab.pages(0));
      if (count === 0) this.fail(this.closedByPeer());
      return count;
    } catch (error) {
      if (systemCode(error) !== 'EAGAIN') this.fail(channelError(this.description, error));
      return 0;
    }
  }
}

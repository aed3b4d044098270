/** A link over a `net.Socket`, or one for each direction, made for speed: no copy, and no object per write (docs/architecture.md, data path). */
import net from 'node:net';
import { ReadTurn } from '../system/read-turn.js';
import { enlargeBuffer } from '../system/socket-buffer.js';
import type { OnRead } from '../system/sockets.js';
import { type Clock, systemClock } from '../util/clock.js';
import { BaseLink } from './base-link.js';
import type { LinkHandler } from './link.js';
import { PAGE_BYTES, ReadSlab } from './read-slab.js';

/** Reads and writes past the event loop, for a device where that is faster. Called only while the link is open. */
export interface DirectAccess {
  /** Fills pages from the first on with what is there; the number of bytes, 0 where there is nothing now. */
  readNow(pages: Buffer[]): number;
  /** Writes what the device takes at once; the number of bytes. */
  writeNow(bytes: Buffer): number;
}

/** Two sockets that are one channel: bytes come from one of them and go to the other. */
export interface SocketHalves {
  readonly input: net.Socket;
  readonly output: net.Socket;
}

/** How a link differs from the plain one. */
export interface SocketLinkOptions {
  /** Default 135168; a multiple of 4096. */
  readonly slabBytes?: number;
  /** Bytes that were read before the link was made; delivered first. The link owns them. */
  readonly firstBytes?: Buffer;
  /** Also says that the socket is a device: it has no half-close. */
  readonly direct?: DirectAccess;
  /** Whether `close` waits for the other side's end. Default: not on a device, which has none. */
  readonly waitsForEnd?: boolean;
  /** Default `systemClock`. */
  readonly clock?: Clock;
  /** Default: it is not told. */
  readonly origin?: string | undefined;
  /** See `Link.mayBeStuck`. */
  readonly mayBeStuck?: boolean;
}

/** A page more than a frame of the usual largest size, so that one read takes a whole one. */
const SLAB_BYTES = 135_168;

/** A link over a socket (connected, accepted, connecting, or made of a device's handle), or over two halves. */
export class SocketLink extends BaseLink {
  readonly origin: string | undefined;
  readonly mayBeStuck: boolean;
  readonly #input: net.Socket;
  readonly #output: net.Socket;
  readonly #slab: ReadSlab;
  readonly #direct: DirectAccess | null;
  readonly #waitsForEnd: boolean;
  readonly #turn = new ReadTurn(() => {
    if (!this.isPaused) this.readOn();
  });
  #firstBytes: Buffer | null;
  /** The buffer to ask for when a write does not fit; null: none, or it was asked for. */
  #wantedBufferBytes: number | null = null;
  #bufferBytes: number | null = null;

  /** `open` makes the socket or the halves, with `allowHalfOpen`, read by the `onread` that it is given. */
  constructor(
    description: string,
    open: (onread: OnRead) => net.Socket | SocketHalves,
    options: SocketLinkOptions = {},
  ) {
    super(description, options.clock ?? systemClock);
    this.origin = options.origin;
    this.mayBeStuck = options.mayBeStuck ?? false;
    this.#slab = new ReadSlab(options.slabBytes ?? SLAB_BYTES);
    this.#direct = options.direct ?? null;
    this.#waitsForEnd = options.waitsForEnd ?? this.#direct === null;
    this.#firstBytes = options.firstBytes ?? null;
    const opened = open({
      buffer: () => this.#slab.room,
      callback: (byteCount) => this.#read(byteCount),
    });
    this.#input = 'input' in opened ? opened.input : opened;
    this.#output = 'output' in opened ? opened.output : opened;
    this.#input.pause();
    this.#output.setNoDelay(true);
    this.#input.on('end', () => this.#handleEnd());
    const sockets = new Set([this.#input, this.#output]);
    for (const socket of sockets) {
      socket.on('error', (error) => this.fail(this.failure(error)));
      socket.on('close', () => {
        sockets.delete(socket);
        if (sockets.size === 0) this.transportGone();
      });
    }
  }

  get unwrittenBytes(): number {
    return this.#output.writableLength;
  }

  get bufferBytes(): number | null {
    return this.#bufferBytes;
  }

  wantBuffer(bytes: number): void {
    this.#wantedBufferBytes = bytes;
  }

  /** Once the link is closing, what is written is dropped. */
  write(bytes: Buffer): boolean {
    const socket = this.#output;
    if (this.state !== 'open') return true;
    let rest = bytes;
    if (this.#direct !== null && socket.writableLength === 0) {
      const written = this.#direct.writeNow(bytes);
      if (written === bytes.length) return true;
      rest = bytes.subarray(written);
    }
    socket.write(rest, this.#written);
    if (this.#isWritten()) return true;
    this.awaitsDrain = true;
    return false;
  }

  writeParts(parts: readonly Buffer[]): boolean {
    // A device takes each write as it is; a socket takes all in one system call.
    const isCorked = this.#direct === null;
    if (isCorked) this.#output.cork();
    for (const part of parts) this.write(part);
    if (isCorked) this.#output.uncork();
    return this.#isWritten();
  }

  /** Whether the socket took all of it at once; when it first does not, it gets its buffer. */
  #isWritten(): boolean {
    const socket = this.#output;
    if (socket.writableLength === 0) return true;
    const bytes = this.#wantedBufferBytes;
    if (bytes !== null && socket.writableCorked === 0) {
      this.#wantedBufferBytes = null;
      void enlargeBuffer(socket, bytes).then((granted) => {
        this.#bufferBytes = granted;
      });
    }
    return false;
  }

  /** A property, so that no function is made for a write. */
  readonly #written = (): void => {
    if (this.awaitsDrain && this.#output.writableLength === 0) this.drained();
  };

  protected begin(handler: LinkHandler): void {
    const firstBytes = this.#firstBytes;
    this.#firstBytes = null;
    if (firstBytes !== null && this.state === 'open') handler.onBytes(firstBytes);
    if (!this.isPaused) this.readOn();
  }

  protected readOn(): void {
    if (!this.#input.destroyed) this.#input.resume();
  }

  protected endTransport(): void {
    // A socket that is closed with input unread resets its peer, which may then lose what it has not read: so say the
    // end and wait for the peer's, in so far as it is read at all. A device has no end to say.
    const waitsForPeer = this.#waitsForEnd && this.handler !== null;
    this.#output.end(() => {
      if (!waitsForPeer || this.#input.readableEnded) this.dropTransport();
    });
  }

  protected dropTransport(): void {
    this.#input.destroy();
    this.#output.destroy();
  }

  /** Delivers what was read. False where no more is to be read in this turn. */
  #read(byteCount: number): boolean {
    if (this.#direct === null) return this.#deliver(byteCount);
    let count = byteCount;
    // A page that is not full was the last one: another read would only find nothing, and that costs an exception.
    if (count % PAGE_BYTES === 0 && count < this.#slab.room.length)
      count += this.#direct.readNow(this.#slab.pages(count));
    for (let isFull = true; isFull && count > 0 && this.state === 'open'; ) {
      isFull = count === this.#slab.room.length;
      if (!this.#deliver(count)) return false;
      if (isFull) count = this.#direct.readNow(this.#slab.pages(0));
    }
    return !this.isPaused;
  }

  #deliver(byteCount: number): boolean {
    const { handler } = this;
    if (this.state !== 'open' || handler === null) return !this.isPaused;
    const isFull = byteCount === this.#slab.room.length;
    this.#slab.took(byteCount, handler.onBytes(this.#slab.room.subarray(0, byteCount)));
    return !this.isPaused && !this.#turn.isOver(byteCount, isFull, handler.hasInteractive?.() ?? false);
  }

  /** The other side ended. What is still to be written has nobody to go to, but where this side is closing anyway. */
  #handleEnd(): void {
    const stillWrites = this.state === 'closing' && this.#direct === null && !this.#output.writableFinished;
    if (!stillWrites) this.fail(this.closedByPeer());
  }
}

/**
 * Two descriptors, one to read and one to write, as the halves of a link: FIFOs, pipes or sockets (nothing else: epoll
 * aborts the process on a regular file). They own both, which become non-blocking.
 */
export function openHalves(inputFd: number, outputFd: number, onread: OnRead): SocketHalves {
  const input: net.SocketConstructorOpts & { onread: OnRead } = {
    fd: inputFd,
    onread,
    readable: true,
    writable: false,
    allowHalfOpen: true,
  };
  return {
    input: new net.Socket(input),
    output: new net.Socket({ fd: outputFd, readable: false, writable: true, allowHalfOpen: true }),
  };
}

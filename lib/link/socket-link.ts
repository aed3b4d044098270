/** A link over a `net.Socket`, or one per direction, built for speed: no copy, no object per write (docs/architecture.md). */
import net from 'node:net';
import type { KeepDescriptor, TakeDescriptor } from '../system/descriptors.js';
import { adoptSocket, descriptorOf, type OnRead, unwrittenBytesOf } from '../system/sockets/node-sockets.js';
import { ReadTurn } from '../system/sockets/read-turn.js';
import { enlargeBuffer } from '../system/sockets/socket-buffer.js';
import { copyAlone } from '../util/bytes/byte-queue.js';
import { LastPieces, lastOf } from '../util/bytes/last-pieces.js';
import { type CancelTimer, type Clock, systemClock } from '../util/clock.js';
import { BaseLink } from './base-link.js';
import type { LinkHandler, LinkState } from './link.js';
import { PAGE_BYTES, ReadSlab } from './read-slab.js';

/** Reads and writes that bypass the event loop, for a device where that is faster. Called only while the link is open. */
export interface DirectAccess {
  /** Fills pages in order with what is available. Returns the number of bytes, 0 if nothing is available now. */
  readNow(pages: Buffer[]): number;
  /** Writes what the device takes at once. Returns the number of bytes. */
  writeNow(bytes: Buffer): number;
}

/** Two sockets that form one channel: bytes come from one and go to the other. */
export interface SocketHalves {
  readonly input: net.Socket;
  readonly output: net.Socket;
}

/** Options of a link; a new link needs none of the state of an earlier one. */
export interface SocketLinkOptions extends Partial<Omit<LinkState, 'description' | 'descriptors'>> {
  /** Default 135168; a multiple of 4096. */
  readonly slabBytes?: number;
  /** Implies that the socket is a device: it has no half-close. */
  readonly direct?: DirectAccess;
  /** Makes the system report readiness again. Called now and then while the device is silent. */
  readonly pollDevice?: () => void;
  /** Whether `close` waits for the other side's end. Default: not on a device, which has none. */
  readonly waitsForEnd?: boolean;
  /** Default `systemClock`. */
  readonly clock?: Clock;
}

/** One page more than a frame of the usual largest size, so that one read takes a whole frame. */
const SLAB_BYTES = 135_168;

/** The interval at which a silent device is polled, in milliseconds. */
const POLL_MS = 5000;

/** A link over a socket (connected, accepted, connecting, or made of a device's handle), or over two halves. */
export class SocketLink extends BaseLink {
  readonly origin: string | null;
  readonly mayBeStuck: boolean;
  bufferBytes: number | null;
  readonly #input: net.Socket;
  readonly #output: net.Socket;
  readonly #slab: ReadSlab;
  readonly #direct: DirectAccess | null;
  readonly #waitsForEnd: boolean;
  readonly #turn = new ReadTurn(() => {
    if (!this.isPaused) this.readOn();
  });
  #firstBytes: Buffer | null;
  /** The buffer size to request when a write does not fit; null: none, or already requested. */
  #wantedBufferBytes: number | null = null;
  /** The last written pieces, while the system may not have taken them. */
  #unwritten: LastPieces | null = null;
  readonly #pollDevice: (() => void) | null;
  /** Whether anything came since the last poll of the device. */
  #hasRead = false;
  #cancelPoll: CancelTimer | null = null;
  /** Whether bytes that an earlier process left unwritten are held back until the start. */
  #isCorked = false;

  /** `open` makes the socket or the halves with `allowHalfOpen`, reading through the given `onread`. */
  constructor(
    description: string,
    open: (onread: OnRead) => net.Socket | SocketHalves,
    options: SocketLinkOptions = {},
  ) {
    super(description, options.clock ?? systemClock);
    this.origin = options.origin ?? null;
    this.mayBeStuck = options.mayBeStuck ?? false;
    this.bufferBytes = options.bufferBytes ?? null;
    this.#slab = new ReadSlab(options.slabBytes ?? SLAB_BYTES);
    this.#direct = options.direct ?? null;
    this.#pollDevice = options.pollDevice ?? null;
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
    if (options.unwritten !== undefined) this.#queueUnwritten(options.unwritten);
  }

  get unwrittenBytes(): number {
    return this.#output.writableLength;
  }

  get descriptor(): number | null {
    return descriptorOf(this.#input);
  }

  wantBuffer(bytes: number): void {
    this.#wantedBufferBytes = bytes;
  }

  /** Drops the bytes once the link is closing. */
  write(bytes: Buffer): boolean {
    const socket = this.#output;
    if (this.phase !== 'open') return true;
    let rest = bytes;
    if (this.#direct !== null && socket.writableLength === 0) {
      const written = this.#direct.writeNow(bytes);
      if (written === bytes.length) return true;
      rest = bytes.subarray(written);
    }
    socket.write(rest, this.#written);
    if (this.#isWritten()) return true;
    this.#keep(rest);
    this.awaitsDrain = true;
    return false;
  }

  writeParts(parts: readonly Buffer[]): boolean {
    const socket = this.#output;
    // For a device each write is a system call; a socket takes all parts in one.
    if (this.#direct !== null) {
      for (const part of parts) this.write(part);
      return this.#isWritten();
    }
    if (this.phase !== 'open') return this.#isWritten();
    socket.cork();
    for (const part of parts) socket.write(part, this.#written);
    socket.uncork();
    this.awaitsDrain = true;
    if (this.#isWritten()) return true;
    for (const part of parts) this.#keep(part);
    return false;
  }

  #keep(bytes: Buffer): void {
    this.#unwritten ??= new LastPieces();
    this.#unwritten.add(bytes);
  }

  /** Whether the socket took everything at once; the first time it does not, it gets its larger buffer. */
  #isWritten(): boolean {
    const socket = this.#output;
    if (socket.writableLength === 0) return true;
    const bytes = this.#wantedBufferBytes;
    if (bytes !== null && socket.writableCorked === 0) {
      this.#wantedBufferBytes = null;
      void enlargeBuffer(socket, bytes).then((granted) => {
        this.bufferBytes = granted;
      });
    }
    return false;
  }

  /** A property, so that a write creates no function. */
  readonly #written = (): void => {
    if (!this.awaitsDrain) return;
    const bytes = this.#output.writableLength;
    if (bytes > 0) {
      this.#unwritten?.forgetAllBut(bytes);
      return;
    }
    this.#unwritten = null;
    this.drained();
  };

  capture(keep: KeepDescriptor): LinkState | null {
    const sockets = [...new Set([this.#input, this.#output])];
    const isSimple = sockets.every((socket) => !socket.connecting && socket.readableLength === 0);
    if (!this.isTransportAlone || !isSimple) return null;
    const fds = sockets.map(descriptorOf).filter((fd) => fd !== null);
    const byteCount = unwrittenBytesOf(this.#output);
    const unwritten = byteCount === null ? null : lastOf(this.#unwritten, byteCount);
    if (unwritten === null || fds.length < sockets.length) return null;
    return {
      description: this.description,
      descriptors: fds.map((fd) => keep(fd)),
      unwritten: Buffer.concat(unwritten),
      firstBytes: this.#firstBytes,
      origin: this.origin,
      mayBeStuck: this.mayBeStuck,
      bufferBytes: this.bufferBytes,
    };
  }

  /** Queues what an earlier process left unwritten, to go out at the start before later writes. */
  #queueUnwritten(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.#isCorked = true;
    this.#output.cork();
    // A view would keep all that was handed over.
    this.write(copyAlone(bytes));
  }

  protected begin(handler: LinkHandler): void {
    if (this.#isCorked) this.#output.uncork();
    this.#isCorked = false;
    const firstBytes = this.#firstBytes;
    this.#firstBytes = null;
    if (firstBytes !== null && this.phase === 'open') handler.onBytes(firstBytes);
    if (!this.isPaused) this.readOn();
    if (this.phase === 'open') this.#pollLater();
  }

  /**
   * A virtio-serial port may lose an interrupt when its machine is restored to a snapshot under traffic: it does not report
   * its readiness then, and without a poll no other interrupt comes.
   */
  #pollLater(): void {
    const poll = this.#pollDevice;
    if (poll === null) return;
    this.#cancelPoll = this.clock.schedule(POLL_MS, () => {
      if (!this.#hasRead || this.unwrittenBytes > 0) poll();
      this.#hasRead = false;
      this.#pollLater();
    });
  }

  protected readOn(): void {
    if (!this.#input.destroyed) this.#input.resume();
  }

  protected endTransport(): void {
    // Closing a socket with unread input resets its peer, which may then lose what it has not read: so send EOF
    // and wait for the peer's, as far as it is read at all. A device has no EOF.
    const waitsForPeer = this.#waitsForEnd && this.handler !== null;
    this.#output.end(() => {
      if (!waitsForPeer || this.#input.readableEnded) this.dropTransport();
    });
  }

  protected dropTransport(): void {
    this.#cancelPoll?.();
    this.#input.destroy();
    this.#output.destroy();
  }

  /** Delivers what was read. Returns false if no more should be read in this turn. */
  #read(byteCount: number): boolean {
    if (this.#direct === null) return this.#deliver(byteCount);
    this.#hasRead = true;
    let count = byteCount;
    // A page that is not full was the last one: another read would find nothing, and that costs an exception.
    if (count % PAGE_BYTES === 0 && count < this.#slab.room.length)
      count += this.#direct.readNow(this.#slab.pages(count));
    for (let isFull = true; isFull && count > 0 && this.phase === 'open'; ) {
      isFull = count === this.#slab.room.length;
      if (!this.#deliver(count)) return false;
      if (isFull) count = this.#direct.readNow(this.#slab.pages(0));
    }
    return !this.isPaused;
  }

  #deliver(byteCount: number): boolean {
    const { handler } = this;
    if (this.phase !== 'open' || handler === null) return !this.isPaused;
    const isFull = byteCount === this.#slab.room.length;
    this.#slab.took(byteCount, handler.onBytes(this.#slab.room.subarray(0, byteCount)));
    return !this.isPaused && !this.#turn.isOver(byteCount, isFull, handler.hasInteractive?.() ?? false);
  }

  /** The other side ended. Unwritten bytes can no longer arrive, unless this side is closing anyway. */
  #handleEnd(): void {
    const stillWrites = this.phase === 'closing' && this.#direct === null && !this.#output.writableFinished;
    if (!stillWrites) this.fail(this.closedByPeer());
  }
}

/**
 * The link that a predecessor of this process had over a TCP socket, a unix socket or two FIFOs. It reads and
 * writes nothing before its start.
 */
export function restoreSocketLink(state: LinkState, take: TakeDescriptor, options: SocketLinkOptions = {}): SocketLink {
  const [first = -1, second] = state.descriptors.map((index) => take(index));
  const open = (onread: OnRead) =>
    second === undefined ? adoptSocket(first, { onread }) : openHalves(first, second, onread);
  return new SocketLink(state.description, open, { ...options, ...state });
}

/**
 * Makes the halves of a link of two descriptors, one to read and one to write: FIFOs, pipes or sockets (nothing else: epoll
 * aborts the process on a regular file). The halves own both descriptors, which become non-blocking.
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

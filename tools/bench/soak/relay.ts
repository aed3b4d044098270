/** The channel between the two processes of a soak: a relay of unix sockets that cuts, stalls, loses, repeats or changes bytes. */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import net from 'node:net';

const REDIAL_MS = 20;

/** Carries bytes between the guest, which connects to it, and the host, to which it connects. */
export class FaultyRelay {
  /** Close the channel after this many further bytes, anywhere in a frame. */
  bytesToCut = Number.POSITIVE_INFINITY;
  /** Lose this many of the next bytes. */
  bytesToLose = 0;
  /** Carry this many of the next bytes twice. */
  bytesToRepeat = 0;
  /** Change one byte after this many further bytes. */
  bytesToChange = Number.POSITIVE_INFINITY;
  /** Whether an end stays connected when the other one has closed, as with a virtio-serial port. */
  holdsOpen = false;
  carriedBytes = 0;
  readonly #guestPath: string;
  readonly #hostPath: string;
  readonly #server = net.createServer((socket) => this.#takeGuest(socket));
  #guest: net.Socket | null = null;
  #host: net.Socket | null = null;
  #isStalled = false;
  #isStopped = false;
  #redial: NodeJS.Timeout | undefined;

  constructor(guestPath: string, hostPath: string) {
    this.#guestPath = guestPath;
    this.#hostPath = hostPath;
  }

  /** Whether a fault still waits for bytes. */
  get isFaulty(): boolean {
    return (
      Math.min(this.bytesToCut, this.bytesToChange) < Number.POSITIVE_INFINITY ||
      this.bytesToLose + this.bytesToRepeat > 0
    );
  }

  async start(): Promise<void> {
    this.#server.listen(this.#guestPath);
    await once(this.#server, 'listening');
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#redial);
    this.#server.close();
    this.cut();
    rmSync(this.#guestPath, { force: true });
  }

  /** Closes the channel at both ends. */
  cut(): void {
    this.bytesToCut = Number.POSITIVE_INFINITY;
    this.#guest?.destroy();
    this.#host?.destroy();
  }

  /** Stalls both ends until `goOn`. */
  stall(): void {
    this.#isStalled = true;
    this.#guest?.pause();
    this.#host?.pause();
  }

  goOn(): void {
    this.#isStalled = false;
    this.#guest?.resume();
    this.#host?.resume();
  }

  #takeGuest(socket: net.Socket): void {
    this.#guest?.destroy();
    this.#guest = socket;
    this.#carry(socket, () => this.#host);
    socket.once('close', () => {
      if (this.#guest === socket) this.#guest = null;
      if (!this.holdsOpen) this.#host?.destroy();
    });
    this.#dialHost();
  }

  #dialHost(): void {
    if (this.#host !== null || this.#isStopped) return;
    const socket = net.connect(this.#hostPath);
    this.#host = socket;
    this.#carry(socket, () => this.#guest);
    let isConnected = false;
    socket.once('connect', () => {
      isConnected = true;
    });
    socket.once('close', () => {
      this.#host = null;
      if (isConnected && !this.holdsOpen) this.#guest?.destroy();
      else if (this.#guest !== null && !this.#isStopped) this.#redial = setTimeout(() => this.#dialHost(), REDIAL_MS);
    });
  }

  #carry(from: net.Socket, to: () => net.Socket | null): void {
    from.on('error', () => undefined);
    from.on('data', (chunk: Buffer) => {
      const bytes = this.#fault(chunk);
      const target = to();
      this.carriedBytes += bytes.length;
      // While the other end is not connected, bytes are lost, as in a port whose guest reboots.
      if (target !== null && !target.write(bytes)) {
        from.pause();
        void settled(target).then(() => this.#resume(from));
      }
      this.bytesToCut -= bytes.length;
      if (this.bytesToCut <= 0) this.cut();
    });
    if (this.#isStalled) from.pause();
  }

  #resume(socket: net.Socket): void {
    if (!this.#isStalled) socket.resume();
  }

  #fault(chunk: Buffer): Buffer {
    const lost = Math.min(this.bytesToLose, chunk.length);
    this.bytesToLose -= lost;
    const repeated = chunk.subarray(0, this.bytesToRepeat);
    this.bytesToRepeat -= repeated.length;
    // Lost from the end of a chunk, which often begins with a frame: so that parts of frames are lost.
    const rest = chunk.subarray(0, chunk.length - lost);
    const bytes = Buffer.concat([repeated, rest]).subarray(0, this.bytesToCut);
    if (this.bytesToChange < bytes.length) {
      bytes[this.bytesToChange] = (bytes[this.bytesToChange] ?? 0) ^ 0x01;
      this.bytesToChange = Number.POSITIVE_INFINITY;
    }
    this.bytesToChange -= bytes.length;
    return bytes;
  }
}

/** Resolves when a socket is writable again, or never will be. */
function settled(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => {
    const settle = () => {
      socket.off('drain', settle).off('close', settle);
      resolve();
    };
    socket.on('drain', settle).on('close', settle);
  });
}

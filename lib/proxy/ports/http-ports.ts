/**
 * `--http-ports`: one listener for the ports of all peers. The Host of the first request on a connection names the port and the
 * channel, `3000.vm1.localhost`; the connection is then spliced with a stream to that port.
 */
import net from 'node:net';
import { toVproxyError, type VproxyError } from '../../errors.js';
import { descriptorShortage, type KeepDescriptor, type TakeDescriptor } from '../../system/descriptors.js';
import { listenAt } from '../../system/sockets/listen-at.js';
import {
  adoptSocket,
  descriptorOf,
  readBuffered,
  resetSocket,
  unwrittenBytesOf,
} from '../../system/sockets/node-sockets.js';
import type { HostPort } from '../../util/addresses/host-port.js';
import { type Clock, systemClock } from '../../util/clock.js';
import { LoopTurns } from '../../util/concurrency.js';
import type { Proxy } from '../proxy.js';
import { formatPage } from './port-page.js';
import { isWhole, type PortRequest, readRequest, urlOfPort } from './port-request.js';
import { portService } from './port-rules.js';

/** Timeout for the head of a request, and for reading a page, in milliseconds. */
const CLIENT_MS = 10_000;

/** Limit on connections whose head is not whole; a new one takes the place of the oldest. As many come in a burst (`listenAt`). */
const MAX_WAITING = 4096;

/** Whole heads wait for an upgrade unless more connections wait already; for longer than a stream is an obstacle while it opens. */
const MAX_HELD = MAX_WAITING / 2;
const HELD_MS = 3000;
/** How long requests are served in between. */
const SERVED_MS = 1000;

/** What clients send to a page is read and dropped: nothing limits how much, so they share their turns. */
const DROPPING = new LoopTurns();
const DROPPED = new Uint8Array(65_536);

const NOTHING = Buffer.alloc(0);

export interface HttpPortsOptions {
  readonly proxy: Pick<Proxy, 'joinStream' | 'listPorts'>;
  /** Default `systemClock`. */
  readonly clock?: Clock;
}

/** The listener, for a successor of this process. */
export interface HttpPortsState {
  readonly address: HostPort;
  readonly descriptor: number;
  /** The connections that are not served yet, with what came. */
  readonly waiting: readonly { readonly descriptor: number; readonly head: Buffer }[];
  /** The connections that got a page, and may still send, with what the system has not taken of it. */
  readonly answered: readonly { readonly descriptor: number; readonly rest: Buffer }[];
}

/** Call `listen` or `restore` at most once, then `close`. */
export class HttpPorts {
  readonly #proxy: HttpPortsOptions['proxy'];
  readonly #clock: Clock;
  readonly #server = net.createServer({ allowHalfOpen: true, noDelay: true });
  /** The connections that are not served yet, oldest first, with what came of a head that is not whole. */
  readonly #waiting = new Map<net.Socket, Buffer>();
  /** The connections that get a page, with it. */
  readonly #answered = new Map<net.Socket, Buffer>();
  /** Until when whole heads wait. */
  #heldUntilMs = Number.NEGATIVE_INFINITY;
  #address: HostPort | null = null;

  constructor({ proxy, clock = systemClock }: HttpPortsOptions) {
    this.#proxy = proxy;
    this.#clock = clock;
    this.#server.on('connection', (socket) => this.#accept(socket));
  }

  /** Listens; resolves with the actual address. Rejects with `address-…` codes. `fd`: a descriptor that already listens there. */
  async listen(address: HostPort, fd?: number): Promise<HostPort> {
    const got = await listenAt(this.#server, address, fd);
    this.#address = 'port' in got ? got : address;
    return this.#address;
  }

  /** The URL of a port, for a browser on this machine; null if nothing listens. */
  urlOf(label: string, port: number | string): string | null {
    return this.#address && urlOfPort(label, port, `:${this.#address.port}`);
  }

  /** Stops listening, and closes the connections that have no stream. */
  async close(): Promise<void> {
    const closed = this.#server.listening ? new Promise((resolve) => this.#server.close(resolve)) : null;
    for (const socket of [...this.#waiting.keys(), ...this.#answered.keys()]) socket.destroy();
    await closed;
  }

  // ---- hand-over ------------------------------------------------------------------------------------------------

  /** Opens no streams for a moment, for an upgrade that would otherwise always find one that opens: a successor takes the requests over. */
  letWait(): void {
    const nowMs = this.#clock.now();
    if (nowMs >= this.#heldUntilMs + SERVED_MS) this.#heldUntilMs = nowMs + HELD_MS;
  }

  /** Null if nothing listens. */
  capture(keep: KeepDescriptor): HttpPortsState | null {
    const descriptor = descriptorOf(this.#server);
    if (descriptor === null || this.#address === null) return null;
    const waiting = [...this.#waiting].flatMap(([socket, head]) => {
      const fd = descriptorOf(socket);
      const more = (socket.isPaused() ? (socket.read() as Buffer | null) : null) ?? Buffer.alloc(0);
      if (more.length > 0) socket.unshift(more);
      return fd === null ? [] : [{ descriptor: keep(fd), head: Buffer.concat([head, more]) }];
    });
    const answered = [...this.#answered].flatMap(([socket, page]) => {
      const fd = descriptorOf(socket);
      const rest = page.subarray(page.length - (unwrittenBytesOf(socket) ?? 0));
      return fd === null ? [] : [{ descriptor: keep(fd), rest }];
    });
    return { address: this.#address, descriptor: keep(descriptor), waiting, answered };
  }

  /** Takes over from a predecessor. Rejects as `listen` does. */
  async restore({ address, descriptor, waiting, answered }: HttpPortsState, take: TakeDescriptor): Promise<void> {
    for (const { descriptor: index, rest } of answered) {
      const socket = adoptSocket(take(index));
      // Not if it is empty: the end may be written already.
      if (rest.length > 0) socket.write(rest);
      this.#linger(socket.end(), rest);
    }
    for (const { descriptor: index, head } of waiting) this.#accept(adoptSocket(take(index)), head);
    await this.listen(address, take(descriptor));
  }

  // ---- connections ----------------------------------------------------------------------------------------------

  #accept(socket: net.Socket, head: Buffer = Buffer.alloc(0)): void {
    if (descriptorShortage(socket) !== null) {
      resetSocket(socket);
      return;
    }
    if (this.#waiting.size >= MAX_WAITING) this.#makeRoom();
    this.#waiting.set(socket, head);
    let cancelTimeout = this.#clock.schedule(CLIENT_MS, () => socket.destroy());
    const leave = (): void => {
      cancelTimeout();
      this.#waiting.delete(socket);
    };
    const abandon = (): void => void socket.destroy();
    let came = head;
    const read = (piece: Buffer): void => {
      const from = came.length;
      came = Buffer.concat([came, piece]);
      this.#waiting.set(socket, came);
      if (isWhole(came, from)) begin();
    };
    const begin = (): void => {
      // With its bytes in it, the socket cannot end while it waits.
      socket.off('data', read).off('end', abandon).pause().unshift(came);
      this.#waiting.set(socket, Buffer.alloc(0));
      serve();
    };
    const serve = (): void => {
      const waitMs = this.#heldUntilMs - this.#clock.now();
      cancelTimeout();
      // No connection is lost for an upgrade: if many wait, they are served.
      if (waitMs > 0 && this.#waiting.size < MAX_HELD) {
        cancelTimeout = this.#clock.schedule(waitMs, serve);
        return;
      }
      leave();
      void this.#serve(socket, came);
    };
    // After an error it closes.
    socket.on('error', () => undefined).once('close', leave);
    socket.on('end', abandon).on('data', read).resume();
    if (isWhole(head, 0)) begin();
  }

  /** Splices a connection with a stream, or answers with a page. */
  async #serve(socket: net.Socket, received: Buffer): Promise<void> {
    let request: PortRequest | null = null;
    try {
      request = readRequest(received);
      const { label, port } = request;
      if (label === null || port === null) {
        this.#answer(socket, request, null);
        return;
      }
      const gone = new AbortController();
      socket.once('close', () => gone.abort());
      await this.#proxy.joinStream(portService(port), label, {
        socket,
        isAttached: false,
        isReopened: false,
        signal: gone.signal,
        onAccept: () => undefined,
      });
    } catch (error) {
      this.#answer(socket, request, toVproxyError(error));
    }
  }

  #answer(socket: net.Socket, request: PortRequest | null, reason: VproxyError | null): void {
    if (socket.destroyed) return;
    const ports = this.#proxy.listPorts().filter(({ announcedBy }) => announcedBy === 'peer');
    const own = ports.filter(({ channel }) => channel === request?.label);
    const page = formatPage(request, reason, own.length > 0 ? own : ports);
    this.#linger(socket.end(page), page);
  }

  /** Closes the oldest connection whose head is not whole: one that is held is not lost for an upgrade. */
  #makeRoom(): void {
    for (const socket of this.#waiting.keys()) {
      if (socket.isPaused()) continue;
      socket.destroy();
      return;
    }
  }

  /** Unread bytes would reset the connection, and the client might lose the page. */
  #linger(socket: net.Socket, page: Buffer): void {
    this.#answered.set(socket, page);
    const cancelTimeout = this.#clock.schedule(CLIENT_MS, () => socket.destroy());
    // After an error it closes.
    socket
      .on('error', () => undefined)
      .once('close', () => {
        cancelTimeout();
        this.#answered.delete(socket);
      })
      .once('finish', () => this.#answered.set(socket, NOTHING));
    const callback = (): boolean => {
      const turn = DROPPING.nextTurn();
      void turn?.then(() => socket.resume());
      return turn === null;
    };
    readBuffered(socket, { buffer: () => DROPPED, callback });
  }
}

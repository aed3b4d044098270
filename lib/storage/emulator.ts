/** A storage emulator for programs: a handler answers wrappers in virtual machines. */
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { EventEmitter } from 'eventemitter3';
import { systemCode, toVproxyError, VproxyError } from '../errors.js';
import type { ListenAddress } from '../system/sockets/listen-address.js';
import { formatListenAddress, listenAt } from '../system/sockets/listen-at.js';
import { JsonScanner } from '../util/bytes/json-scanner.js';
import { Backoff, type CancelTimer, type Clock, systemClock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { decodeRequest, encodeReply, MAX_REQUEST_BYTES, type StorageRequest, type StorageResult } from './wire.js';

/** The events of a `StorageEmulator`. The emulator continues after a failure. */
export interface StorageEmulatorEvents {
  /** A valid request arrived; the handler is called next. */
  request: [StorageRequest];
  /** Connected to a dialled address. */
  connected: [ListenAddress];
  /** A request or a connection failed, or an address could not be dialled. */
  failure: [VproxyError];
}

/** Options of an emulator. */
export interface StorageEmulatorOptions {
  /** Default: the system's. */
  readonly clock?: Clock;
}

// A connection that lasted this long, or carried a request, resets the back-off.
const SETTLED_MS = 5000;
const MAX_CONNECTIONS = 1024;

/** Answers storage calls on addresses that it listens on or dials; many connections at once. */
export class StorageEmulator extends EventEmitter<StorageEmulatorEvents> {
  readonly #handler: StorageHandler;
  readonly #clock: Clock;
  readonly #servers = new Set<Server>();
  readonly #sockets = new Set<Socket>();
  readonly #redials = new Set<CancelTimer>();
  #isClosed = false;

  constructor(handler: StorageHandler, options: StorageEmulatorOptions = {}) {
    super();
    this.#handler = handler;
    this.#clock = options.clock ?? systemClock;
  }

  /**
   * Listens; resolves with the actual address (port 0 picks a port; a unix socket has mode 0600). Rejects with
   * `address-in-use`, `address-denied` or `address-unavailable`.
   */
  async listen(address: ListenAddress): Promise<ListenAddress> {
    const server = createServer({ allowHalfOpen: true }, (socket) => void this.#serve(socket, got, () => undefined));
    server.maxConnections = MAX_CONNECTIONS;
    const got = await listenAt(server, address);
    server.on('error', (error) => this.emit('failure', failureAt(got, error)));
    this.#servers.add(server);
    return got;
  }

  /** Connects to an address, and reconnects 100 ms to 5 s after each failure or end, until `close`. */
  dial(address: ListenAddress): void {
    const backoff = new Backoff({ firstMs: 100, maxMs: 5000 });
    const attempt = async (): Promise<void> => {
      try {
        const socket = await this.#connect(address);
        const sinceMs = this.#clock.now();
        this.emit('connected', address);
        await this.#serve(socket, address, () => backoff.reset());
        if (this.#clock.now() - sinceMs >= SETTLED_MS) backoff.reset();
      } catch (error) {
        if (!this.#isClosed) this.emit('failure', failureAt(address, error));
      }
      if (this.#isClosed) return;
      const cancel = this.#clock.schedule(backoff.next(), () => {
        this.#redials.delete(cancel);
        void attempt();
      });
      this.#redials.add(cancel);
    };
    void attempt();
  }

  /** Stops listening and dialling, and closes all connections. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const cancel of this.#redials) cancel();
    this.#redials.clear();
    const closed = [...this.#servers].map((server) => new Promise((resolve) => server.close(resolve)));
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(closed);
  }

  #connect(address: ListenAddress): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const socket = createConnection({ ...address, allowHalfOpen: true });
      this.#keep(socket);
      socket.once('error', reject);
      socket.once('close', () => reject(new VproxyError('cancelled', 'the emulator was closed')));
      socket.once('connect', () => resolve(socket));
    });
  }

  async #serve(socket: Socket, address: ListenAddress, onRequest: () => void): Promise<void> {
    this.#keep(socket);
    await serveEmulatorConnection(socket, this.#handler, {
      onRequest: (request) => {
        onRequest();
        this.emit('request', request);
      },
      onFailure: (error) => {
        if (this.#isClosed) return;
        // A system error does not name the connection.
        this.emit('failure', error.cause === socket.errored ? failureAt(address, error.cause) : error);
      },
    });
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }
}

/** Creates an emulator whose calls `handler` answers. Then call `listen` or `dial`. */
export function createStorageEmulator(handler: StorageHandler, options?: StorageEmulatorOptions): StorageEmulator {
  return new StorageEmulator(handler, options);
}

function failureAt(address: ListenAddress, cause: unknown): VproxyError {
  const reason = systemCode(cause) || (cause instanceof Error ? cause.message : String(cause));
  const message = `storage emulator at ${formatListenAddress(address)}: ${reason}`;
  return new VproxyError('storage-unavailable', message, { cause });
}

/** Answers a storage utility's call. If it throws, the call fails; there are no retries. */
export type StorageHandler = (request: StorageRequest) => StorageResult | Promise<StorageResult>;

interface EmulatorConnectionEvents {
  readonly onRequest: (request: StorageRequest) => void;
  /** A request could not be answered, or the connection was lost. */
  readonly onFailure: (error: VproxyError) => void;
}

/**
 * Serves a socket until the client closes it; one request at a time, in order. Resolves when the socket is finished.
 */
async function serveEmulatorConnection(
  socket: Socket,
  handler: StorageHandler,
  events: EmulatorConnectionEvents,
): Promise<void> {
  const scanner = new JsonScanner(MAX_REQUEST_BYTES, 'storage-bad-request', 'the storage request');
  const answer = async (message: Buffer): Promise<void> => {
    const request = readRequest(message);
    if (typeof request === 'string') {
      await write(socket, encodeReply({ stderr: `storage emulator: ${request}\n`, status: 126 }));
      return;
    }
    events.onRequest(request);
    await write(socket, encodeReply(await handler(request)));
  };
  socket.on('error', () => undefined);
  try {
    // Read on only when everything received is answered: a client cannot make an emulator queue requests.
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      scanner.push(chunk as Buffer);
      for (let message = scanner.next(); message; message = scanner.next()) await answer(message);
    }
    const rest = scanner.end();
    if (rest) await answer(rest);
  } catch (error) {
    // Only hanging up reports a failed call; a status would look like the utility's own.
    events.onFailure(toVproxyError(error));
  } finally {
    socket.destroySoon();
  }
}

/** Resolves when the reply has been written, so that a slow reader holds at most one reply. */
function write(socket: Socket, reply: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.write(reply, (error) => (error ? reject(error) : resolve()));
  });
}

function readRequest(message: Buffer): StorageRequest | string {
  try {
    return decodeRequest(message);
  } catch (error) {
    return escapeText(toVproxyError(error).message);
  }
}

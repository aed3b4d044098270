/**
 * HTTP on one address, with limits on connections and on the time to send a request. node:http is loaded on the first
 * connection: most processes never get one, and it takes as much memory as all the rest.
 */
import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http';
import net, { type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { toVproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import { descriptorShortage } from '../../system/descriptors.js';
import type { ListenAddress } from '../../system/sockets/listen-address.js';
import { listenAt } from '../../system/sockets/listen-at.js';
import { type InheritedSocket, listenInherited } from '../../system/sockets/listening.js';
import { adoptSocket, descriptorOf } from '../../system/sockets/node-sockets.js';
import { type CancelTimer, type Clock, MAX_TIMER_MS } from '../../util/clock.js';
import { LoopTurns } from '../../util/concurrency.js';
import { answerError } from '../routes/request-error.js';

/** Limit on concurrent HTTP connections, not counting upgraded ones. */
export const MAX_CONNECTIONS = 256;

/** Limit on connections that wait for room, unread. */
const MAX_WAITING = 1024;

/** A new connection is not idle for this long: its request may be on the way. */
export const YOUNG_MS = 5000;

/** An upgrade waits this long for a request that may be on the way, and for the answer to one that it does not have to wait for. */
export const ARRIVING_MS = 1000;

/** The request for an upgrade ends with it. */
const UPGRADE_PATH = '/v1/upgrade';

/** Interval of looking whether connections that wait can be served. */
const LOOK_MS = 100;

/** Timeout for a whole request, from when it can be read or from the previous answer. */
export const REQUEST_TIMEOUT_MS = 10_000;

export interface HttpServiceOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Whether its connections are the operator's, which may use all but the very last descriptors. Default false. */
  readonly isOperators?: boolean;
  /** Called for the first connection; after a failure again for the next one. */
  load(): Promise<HttpHandlers>;
}

export interface HttpHandlers {
  /**
   * Calls `hold` if an upgrade waits for all of the answer, and if the body is of any length: the client may take its time, as long
   * as more comes.
   */
  readonly onRequest: (request: IncomingMessage, response: ServerResponse, hold: () => void) => void;
  /** Takes the socket over. Without it, an upgrade request is answered like any other. */
  readonly onUpgrade?: (request: IncomingMessage, socket: Socket) => void;
}

interface Connection {
  /** The current answer, or the last one. */
  response: ServerResponse | null;
  /** Whether its first request, or the body of one, is still to come, or one is being answered. */
  isArriving: boolean;
  /** When it, or the last request on it, could begin to be read. */
  sinceMs: number;
  cancelTimeout: CancelTimer;
}

/** One server. Call `listen` once, then `close` once. */
export class HttpService {
  readonly #options: HttpServiceOptions;
  /** Accepts connections without reading from them. */
  readonly #listener = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
  /** HTTP connections, oldest first. */
  readonly #connections = new Map<Socket, Connection>();
  readonly #upgraded = new Set<Socket>();
  /** Connections that are not read yet, oldest first. */
  readonly #waiting = new Map<Socket, Connection>();
  #cancelLook: CancelTimer = ignore;
  /** Until when connections wait although there is room. */
  #waitsUntilMs = Number.NEGATIVE_INFINITY;
  /** Spreads connections that come in one turn. */
  readonly #turns = new LoopTurns();
  /** Answers to requests that may change something, and since when. */
  readonly #changing = new Map<ServerResponse, number>();
  #address: ListenAddress | null = null;
  /** The HTTP server; null before the first connection. */
  #server: Promise<HttpServer> | null = null;

  constructor(options: HttpServiceOptions) {
    this.#options = options;
    this.#listener.on('connection', (socket) => this.#accept(socket));
  }

  /** Listens; resolves with the actual address. Rejects with `address-…` codes. `fd`: see `listenAt`. */
  async listen(address: ListenAddress | InheritedSocket, fd?: number): Promise<ListenAddress | InheritedSocket> {
    if (!('fd' in address)) {
      this.#address = await listenAt(this.#listener, address, fd);
      return this.#address;
    }
    await listenInherited(this.#listener, address);
    return address;
  }

  /** The listening address; null if the process inherited the socket. */
  get address(): ListenAddress | null {
    return this.#address;
  }

  /** The listening descriptor; null if closed, or if this version of Node does not expose it. */
  get descriptor(): number | null {
    return descriptorOf(this.#listener);
  }

  /** Whether a request that may change something is in progress, or may be arriving on a connection that is read. */
  get isChanging(): boolean {
    const all = [...this.#connections.values()];
    return this.#changing.size > 0 || all.some((connection) => this.#isArriving(connection, ARRIVING_MS));
  }

  /**
   * Leaves new connections unread for a second, unless a request takes longer than that. Then others are served for a second: an
   * upgrade may wait for long.
   */
  letWait(): void {
    const nowMs = this.#options.clock.now();
    const isLong = [...this.#changing.values()].some((sinceMs) => nowMs - sinceMs >= ARRIVING_MS);
    if (!isLong && nowMs >= this.#waitsUntilMs + ARRIVING_MS) this.#waitsUntilMs = nowMs + ARRIVING_MS;
  }

  get #isWaiting(): boolean {
    return this.#options.clock.now() < this.#waitsUntilMs;
  }

  /** The descriptors of unread connections, for a successor. */
  get unread(): number[] {
    return [...this.#waiting.keys()].flatMap((socket) => descriptorOf(socket) ?? []);
  }

  /** Serves a connection that a predecessor accepted, but did not read. */
  serveAccepted(fd: number): void {
    this.#accept(adoptSocket(fd));
  }

  /** Closes the listener and every connection, even those with a request in progress. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#listener.close(resolve));
    for (const socket of [...this.#waiting.keys(), ...this.#connections.keys(), ...this.#upgraded]) socket.destroy();
    this.#waiting.clear();
    await closed;
  }

  #accept(socket: Socket): void {
    const { isOperators = false } = this.#options;
    const isShort = descriptorShortage(socket, isOperators ? 'operator' : 'ordinary') !== null;
    if (isShort ? !(isOperators && this.#closeIdle()) : this.#waiting.size >= MAX_WAITING) {
      socket.destroy();
      return;
    }
    // Until the HTTP server takes the socket, nothing else handles its errors.
    socket.on('error', ignore).once('close', () => {
      this.#forget(socket);
      this.#admit();
    });
    const connection = { response: null, isArriving: true, sinceMs: 0, cancelTimeout: ignore };
    this.#waiting.set(socket, connection);
    this.#awaitRequest(socket, connection);
    if (this.#waiting.size === 1) this.#admit();
  }

  /** Serves connections that wait, as far as there is room. */
  #admit(): void {
    const isWaiting = this.#isWaiting;
    for (const [socket, connection] of this.#waiting) {
      if (isWaiting || this.#turns.isOver || (this.#connections.size >= MAX_CONNECTIONS && !this.#closeIdle())) break;
      this.#waiting.delete(socket);
      this.#serve(socket, connection);
    }
    this.#cancelLook();
    if (this.#waiting.size === 0) return;
    if (!isWaiting && this.#connections.size < MAX_CONNECTIONS) this.#turns.later(() => this.#admit());
    else this.#cancelLook = this.#options.clock.schedule(LOOK_MS, () => this.#admit());
  }

  #serve(socket: Socket, connection: Connection): void {
    this.#connections.set(socket, connection);
    connection.cancelTimeout();
    this.#server ??= this.#makeServer().catch((error: unknown) => {
      this.#server = null;
      const message = `cannot answer requests: ${toVproxyError(error).message}`;
      this.#options.log(makeEvent('control-failed', message, {}));
      throw error;
    });
    this.#server.then(
      (server) => {
        if (socket.destroyed) return;
        // Start the timeout only now: loading HTTP on a busy machine must not count against the client.
        this.#awaitRequest(socket, connection);
        server.emit('connection', socket);
        socket.off('error', ignore).resume();
      },
      (error: unknown) => {
        this.#awaitRequest(socket, connection);
        // Closing a socket with unread bytes could drop the answer.
        socket.resume().once('end', () => socket.destroy());
        socket.end(rawAnswer('500 Internal Server Error', answerError(error).body));
      },
    );
  }

  async #makeServer(): Promise<HttpServer> {
    const [{ createServer }, handlers] = await Promise.all([import('node:http'), this.#options.load()]);
    const server = createServer({
      // Node's own timeouts are off: this file implements them with its clock.
      connectionsCheckingInterval: MAX_TIMER_MS,
      headersTimeout: 0,
      requestTimeout: 0,
      keepAliveTimeout: 5000,
      maxHeaderSize: 16_384,
    });
    const onRequest = (request: IncomingMessage, response: ServerResponse) => this.#handle(handlers, request, response);
    // The handler knows whether it wants the body.
    server.on('request', onRequest).on('checkContinue', onRequest);
    const { onUpgrade } = handlers;
    if (onUpgrade !== undefined) {
      server.on('upgrade', (request, _socket, head) => {
        if (!this.#release(request.socket)) return;
        // Unshift now, before EOF can arrive: after EOF it is no longer possible.
        if (head.length > 0) request.socket.unshift(head);
        onUpgrade(request, request.socket);
      });
    }
    return server.on('clientError', (error: NodeJS.ErrnoException, socket) => refuse(error, socket));
  }

  /** Closes the oldest idle connection; false if there is none. */
  #closeIdle(): boolean {
    for (const [socket, connection] of this.#connections) {
      if (isBusy(connection) || this.#isArriving(connection, YOUNG_MS)) continue;
      this.#forget(socket);
      socket.destroy();
      return true;
    }
    return false;
  }

  #isArriving({ isArriving, sinceMs }: Connection, withinMs: number): boolean {
    return isArriving && this.#options.clock.now() - sinceMs < withinMs;
  }

  #awaitRequest(socket: Socket, connection: Connection): void {
    connection.sinceMs = this.#options.clock.now();
    connection.cancelTimeout();
    connection.cancelTimeout = this.#options.clock.schedule(REQUEST_TIMEOUT_MS, () => socket.destroy());
  }

  /**
   * Ends the connection of a client that sends nothing for the time of a request, unless what it sent was not read yet, or it was
   * not asked for the body yet.
   */
  #awaitBytes(connection: Connection, request: IncomingMessage): void {
    connection.cancelTimeout();
    if (request.complete) return;
    const { socket } = request;
    const { bytesRead } = socket;
    connection.cancelTimeout = this.#options.clock.schedule(REQUEST_TIMEOUT_MS, () => {
      const isHeldUp = request.readableLength > 0 || request.headers.expect !== undefined;
      if (socket.bytesRead > bytesRead || isHeldUp) this.#awaitBytes(connection, request);
      else socket.destroy();
      // Nothing is read from a client that is held up: only a write, even of nothing, fails if it has left.
      if (isHeldUp) socket.write('');
    });
  }

  #handle({ onRequest }: HttpHandlers, request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const connection = this.#connections.get(socket);
    // Pipelining is not supported: it would allow unlimited pending requests.
    if (connection === undefined || isBusy(connection)) {
      socket.destroy();
      return;
    }
    connection.response = response;
    connection.isArriving = true;
    connection.sinceMs = this.#options.clock.now();
    // The client's next request comes on a connection that waits.
    if (this.#isWaiting) response.setHeader('Connection', 'close');
    let isOver = false;
    request.once('end', () => {
      connection.cancelTimeout();
      connection.isArriving = !isUpgrade(request);
      // Not before: a request that is not complete changes nothing. One that was refused may be complete later.
      if (!isPassive(request) && !isOver) this.#changing.set(response, connection.sinceMs);
    });
    response.once('close', () => {
      isOver = true;
      connection.isArriving = false;
      this.#changing.delete(response);
      if (!socket.destroyed && this.#connections.get(socket) === connection && !isBusy(connection)) {
        this.#awaitRequest(socket, connection);
      }
      this.#admit();
    });
    onRequest(request, response, () => {
      // The client may have left before the request had its turn.
      if (isOver) return;
      this.#changing.set(response, connection.sinceMs);
      this.#awaitBytes(connection, request);
    });
  }

  /** Releases a connection for an upgrade; false if it is already closed. */
  #release(socket: Socket): boolean {
    if (!this.#connections.has(socket)) {
      socket.destroy();
      return false;
    }
    this.#forget(socket);
    this.#admit();
    this.#upgraded.add(socket);
    socket.on('error', () => undefined).once('close', () => this.#upgraded.delete(socket));
    return true;
  }

  #forget(socket: Socket): void {
    this.#connections.get(socket)?.cancelTimeout();
    this.#connections.delete(socket);
    this.#waiting.delete(socket);
  }
}

const ignore = (): void => undefined;

/** Whether a request on it is not yet answered. */
const isBusy = ({ response }: Connection): boolean =>
  response !== null && !response.writableEnded && !response.destroyed;

/** Whether an upgrade may end a request that takes long: a successor completes removals. */
const isPassive = (request: IncomingMessage): boolean =>
  ['GET', 'HEAD', 'DELETE'].includes(request.method ?? '') || isUpgrade(request);

const isUpgrade = ({ url }: IncomingMessage): boolean => url?.split('?')[0] === UPGRADE_PATH;

/** Answers input that is not HTTP. */
function refuse(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || socket.destroyed) {
    socket.destroy();
    return;
  }
  const isLong = error.code === 'HPE_HEADER_OVERFLOW';
  const [status, message] = isLong
    ? ['431 Request Header Fields Too Large', 'request header too long']
    : ['400 Bad Request', 'not an HTTP request'];
  socket.end(rawAnswer(status, { error: { code: 'bad-argument', message } }), () => socket.destroy());
}

/** A whole answer, for connections not handled by node:http; `status` includes its text. */
export function rawAnswer(status: string, value: unknown): string {
  const text = `${JSON.stringify(value)}\n`;
  const head = `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}`;
  return `${head}\r\nConnection: close\r\n\r\n${text}`;
}

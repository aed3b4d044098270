/**
 * HTTP on one address, with limits on connections and on the time to send a request. node:http is loaded on the first
 * connection: most processes never get one, and it takes as much memory as all the rest.
 */
import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http';
import net, { type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { toVproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import { listenAt } from '../../storage/listen.js';
import { descriptorShortage } from '../../system/descriptors.js';
import type { ListenAddress } from '../../system/sockets/listen-address.js';
import { type InheritedSocket, listenInherited } from '../../system/sockets/listening.js';
import { descriptorOf } from '../../system/sockets/node-sockets.js';
import { type CancelTimer, type Clock, MAX_TIMER_MS } from '../../util/clock.js';
import { answerError } from '../routes/request-error.js';
import { isBodyTooLong } from './read-input.js';

/** Limit on concurrent HTTP connections, not counting upgraded ones. */
export const MAX_CONNECTIONS = 256;

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

/** Handlers of requests. */
export interface HttpHandlers {
  readonly onRequest: (request: IncomingMessage, response: ServerResponse) => void;
  /** Takes the socket over. Without it, an upgrade request is answered like any other. */
  readonly onUpgrade?: (request: IncomingMessage, socket: Socket) => void;
}

/** An HTTP connection. */
interface Connection {
  /** The current answer, or the last one. */
  response: ServerResponse | null;
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
  /** Answers to requests that may change something. */
  readonly #changing = new Set<ServerResponse>();
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

  /** Whether a request that may change something is in progress, or may arrive on a new connection not yet read from. */
  get isChanging(): boolean {
    return this.#changing.size > 0 || [...this.#connections.values()].some(({ response }) => response === null);
  }

  /** Closes the listener and every connection, even those with a request in progress. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#listener.close(resolve));
    for (const socket of [...this.#connections.keys(), ...this.#upgraded]) socket.destroy();
    await closed;
  }

  #accept(socket: Socket): void {
    if (!this.#makeRoomFor(socket)) {
      socket.destroy();
      return;
    }
    const connection = { response: null, cancelTimeout: () => undefined };
    this.#connections.set(socket, connection);
    // Until the HTTP server takes the socket, nothing else handles its errors.
    const ignore = (): void => undefined;
    socket.on('error', ignore).once('close', () => this.#forget(socket));
    this.#server ??= this.#makeServer();
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
    try {
      return await this.#loadServer();
    } catch (error) {
      this.#server = null;
      const message = `cannot answer requests: ${toVproxyError(error).message}`;
      this.#options.log(makeEvent('control-failed', message, {}));
      throw error;
    }
  }

  async #loadServer(): Promise<HttpServer> {
    const [{ createServer }, handlers] = await Promise.all([import('node:http'), this.#options.load()]);
    const server = createServer({
      // Node's own timeouts are off: this file implements them with its clock.
      connectionsCheckingInterval: MAX_TIMER_MS,
      headersTimeout: 0,
      requestTimeout: 0,
      keepAliveTimeout: 5000,
      maxHeaderSize: 16_384,
    });
    server.on('request', (request, response) => this.#handle(handlers, request, response, false));
    server.on('checkContinue', (request, response) => this.#handle(handlers, request, response, true));
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

  /** Makes room for a connection, by closing the oldest idle one if needed; false if it cannot be accepted. */
  #makeRoomFor(newcomer: Socket): boolean {
    const { isOperators = false } = this.#options;
    const isShort = descriptorShortage(newcomer, isOperators ? 'operator' : 'ordinary') !== null;
    if (isShort && !isOperators) return false;
    if (!isShort && this.#connections.size < MAX_CONNECTIONS) return true;
    for (const [socket, connection] of this.#connections) {
      if (isBusy(connection)) continue;
      this.#forget(socket);
      socket.destroy();
      return true;
    }
    return false;
  }

  #awaitRequest(socket: Socket, connection: Connection): void {
    connection.cancelTimeout();
    connection.cancelTimeout = this.#options.clock.schedule(REQUEST_TIMEOUT_MS, () => socket.destroy());
  }

  #handle(
    { onRequest }: HttpHandlers,
    request: IncomingMessage,
    response: ServerResponse,
    isContinueExpected: boolean,
  ): void {
    const { socket } = request;
    const connection = this.#connections.get(socket);
    // Pipelining is not supported: it would allow unlimited pending requests.
    if (connection === undefined || isBusy(connection)) {
      socket.destroy();
      return;
    }
    connection.response = response;
    request.once('end', () => connection.cancelTimeout());
    if (!isPassive(request)) this.#changing.add(response);
    response.once('close', () => {
      this.#changing.delete(response);
      if (!socket.destroyed && this.#connections.get(socket) === connection && !isBusy(connection)) {
        this.#awaitRequest(socket, connection);
      }
    });
    if (isContinueExpected && !isBodyTooLong(request)) response.writeContinue();
    onRequest(request, response);
  }

  /** Releases a connection for an upgrade; false if it is already closed. */
  #release(socket: Socket): boolean {
    if (!this.#connections.has(socket)) {
      socket.destroy();
      return false;
    }
    this.#forget(socket);
    this.#upgraded.add(socket);
    socket.on('error', () => undefined).once('close', () => this.#upgraded.delete(socket));
    return true;
  }

  #forget(socket: Socket): void {
    this.#connections.get(socket)?.cancelTimeout();
    this.#connections.delete(socket);
  }
}

/** Whether a request on it is not yet answered. */
const isBusy = ({ response }: Connection): boolean =>
  response !== null && !response.writableEnded && !response.destroyed;

/** Whether a request survives an upgrade: the upgrade itself ends with it, and a successor completes removals. */
const isPassive = ({ method = '', url = '' }: IncomingMessage): boolean =>
  ['GET', 'HEAD', 'DELETE'].includes(method) || url === '/v1/upgrade';

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

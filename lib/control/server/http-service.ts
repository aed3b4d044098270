/**
 * HTTP on one address, with bounds: how many connect, how long they may take to say what they want. What speaks HTTP is
 * loaded for the first connection: most processes never have one, and it takes as much memory as all the rest.
 */
import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http';
import net, { type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { listenAt } from '../../storage/listen.js';
import { descriptorShortage } from '../../system/descriptors.js';
import type { ListenAddress } from '../../system/sockets/listen-address.js';
import { type InheritedSocket, listenInherited } from '../../system/sockets/listening.js';
import { descriptorOf } from '../../system/sockets/node-sockets.js';
import { type CancelTimer, type Clock, MAX_TIMER_MS } from '../../util/clock.js';
import { isBodyTooLong } from './read-input.js';

/** The number of connections that may speak HTTP at the same time; those that were upgraded do not count. */
export const MAX_CONNECTIONS = 256;

/** The time for a whole request, from when it can be read or from the answer before it. */
export const REQUEST_TIMEOUT_MS = 10_000;

export interface HttpServiceOptions {
  readonly clock: Clock;
  /** Whether its connections are the operator's, which get all but the very last descriptors. Default false. */
  readonly isOperators?: boolean;
  /** Called for the first connection, and again for the next one where it fails. */
  load(): Promise<HttpHandlers>;
}

/** What becomes of requests. */
export interface HttpHandlers {
  readonly onRequest: (request: IncomingMessage, response: ServerResponse) => void;
  /** Owns the socket from then on. Without it a request for an upgrade is answered like any other. */
  readonly onUpgrade?: (request: IncomingMessage, socket: Socket) => void;
}

/** A connection that speaks HTTP. */
interface Connection {
  /** The current answer, or the last one. */
  response: ServerResponse | null;
  cancelTimeout: CancelTimer;
}

/** One server. `listen` once, then `close` once. */
export class HttpService {
  readonly #options: HttpServiceOptions;
  /** Accepts connections, and reads nothing of them. */
  readonly #listener = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
  /** Those that speak HTTP, the oldest first. */
  readonly #connections = new Map<Socket, Connection>();
  readonly #upgraded = new Set<Socket>();
  /** Answers to requests that may change something. */
  readonly #changing = new Set<ServerResponse>();
  #address: ListenAddress | null = null;
  /** Speaks HTTP on them; null before the first one. */
  #server: Promise<HttpServer> | null = null;

  constructor(options: HttpServiceOptions) {
    this.#options = options;
    this.#listener.on('connection', (socket) => this.#accept(socket));
  }

  /** Listens; resolved with the address that it got. Rejects with `address-…` codes. `fd`: see `listenAt`. */
  async listen(address: ListenAddress | InheritedSocket, fd?: number): Promise<ListenAddress | InheritedSocket> {
    if (!('fd' in address)) {
      this.#address = await listenAt(this.#listener, address, fd);
      return this.#address;
    }
    await listenInherited(this.#listener, address);
    return address;
  }

  /** Where it listens; null where the process was started with the socket. */
  get address(): ListenAddress | null {
    return this.#address;
  }

  /** The number of the socket; null where this version of Node does not tell, or it is closed. */
  get descriptor(): number | null {
    return descriptorOf(this.#listener);
  }

  /** Whether a request that may change something is under way, or may be on its way: of a new connection nothing was read. */
  get isChanging(): boolean {
    return this.#changing.size > 0 || [...this.#connections.values()].some(({ response }) => response === null);
  }

  /** Closes the listener and every connection, whatever is under way on it. */
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
    // Until HTTP is spoken nobody else listens for its failure.
    const ignore = (): void => undefined;
    socket.on('error', ignore).once('close', () => this.#forget(socket));
    this.#server ??= this.#makeServer();
    this.#server.then(
      (server) => {
        if (socket.destroyed) return;
        // Not before: how long it takes to load, on a machine that is busy, is none of the client's.
        this.#awaitRequest(socket, connection);
        server.emit('connection', socket);
        socket.off('error', ignore).resume();
      },
      () => {
        this.#server = null;
        socket.destroy();
      },
    );
  }

  async #makeServer(): Promise<HttpServer> {
    const [{ createServer }, handlers] = await Promise.all([import('node:http'), this.#options.load()]);
    const server = createServer({
      // Node's own check for slow requests is off: this file does it by its clock.
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
        // Now, as it cannot have ended yet: behind an end nothing can be put back.
        if (head.length > 0) request.socket.unshift(head);
        onUpgrade(request, request.socket);
      });
    }
    return server.on('clientError', (error: NodeJS.ErrnoException, socket) => refuse(error, socket));
  }

  /** Whether one more is accepted: the oldest connection without a request makes room for it. */
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
    // A client that does not wait for answers could send requests without end.
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

  /** Gives up a connection for an upgrade; false if it is closed already. */
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

/** Whether it has a request without an answer. */
const isBusy = ({ response }: Connection): boolean =>
  response !== null && !response.writableEnded && !response.destroyed;

/** Whether nothing of a request is lost with this process: an upgrade is its end, and what is being removed is removed by a successor. */
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
    ? ['431 Request Header Fields Too Large', 'the header of the request is too long']
    : ['400 Bad Request', 'this is no HTTP request'];
  socket.end(rawAnswer(status, { error: { code: 'bad-argument', message } }), () => socket.destroy());
}

/** A whole answer, for a connection that node:http does not write to; `status` with its text. */
export function rawAnswer(status: string, value: unknown): string {
  const text = `${JSON.stringify(value)}\n`;
  const head = `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}`;
  return `${head}\r\nConnection: close\r\n\r\n${text}`;
}

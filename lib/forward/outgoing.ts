/** An outgoing forward (`-o`): listens here, and opens a stream to the peer's service for each connection. */
import net from 'node:net';
import { toVproxyError, type VproxyError } from '../errors.js';
import type { SessionStream } from '../session/session-stream.js';
import { acceptBuffered } from '../util/buffered-socket.js';
import { listen } from '../util/listen.js';
import type { Log } from '../util/log-event.js';
import { resetSocket } from '../util/reset-socket.js';
import type { SessionSource } from './session-source.js';
import { type Endpoint, type ForwardSpec, formatEndpoint } from './spec.js';
import { Splice } from './splice.js';

export interface OutgoingOptions {
  readonly source: SessionSource;
  readonly log: Log;
  /** How long a connection waits for a session, in milliseconds. */
  readonly waitMs: number;
}

export class OutgoingForward {
  readonly spec: ForwardSpec;
  readonly #options: OutgoingOptions;
  readonly #server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
  readonly #stopping = new AbortController();
  readonly #sockets = new Set<net.Socket>();

  constructor(spec: ForwardSpec, options: OutgoingOptions) {
    this.spec = spec;
    this.#options = options;
  }

  /** The address in force, with the port that was picked where 0 was asked for. */
  get endpoint(): Endpoint {
    const { endpoint } = this.spec;
    const bound = this.#server.address();
    if (endpoint.kind === 'unix' || bound === null || typeof bound === 'string') return endpoint;
    return { ...endpoint, port: bound.port };
  }

  /** Listens. Rejects with `address-…` codes. */
  async start(): Promise<void> {
    await listen(
      this.#server,
      this.spec.endpoint.kind === 'unix' ? { path: this.spec.endpoint.path } : this.spec.endpoint,
    );
    this.#server.on('connection', (socket) => this.#forward(socket));
    this.#server.on('error', (error) => this.#log('warn', 'accept-failed', `cannot accept: ${error.message}`));
    this.#log('info', 'listening', `listening on ${formatEndpoint(this.endpoint)} for ${this.spec.service}`);
  }

  /** Stops listening and resets what is still open. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    if (!this.#server.listening) return;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) resetSocket(socket);
    await closed;
  }

  #forward(socket: net.Socket): void {
    const { source, waitMs } = this.#options;
    const from = socket.remoteAddress === undefined ? null : `${socket.remoteAddress}:${socket.remotePort ?? 0}`;
    if (source.session !== null) {
      this.#open(socket, from);
      return;
    }
    this.#track(socket);
    socket.once('error', () => socket.destroy());
    source.wait(waitMs, this.#stopping.signal).then(
      () => {
        this.#sockets.delete(socket);
        if (!socket.destroyed) this.#open(socket, from);
      },
      (error: unknown) => this.#refuse(socket, toVproxyError(error)),
    );
  }

  #open(accepted: net.Socket, from: string | null): void {
    const isUnix = this.spec.endpoint.kind === 'unix';
    let socket: net.Socket | null = null;
    let isOpen = false;
    const splice = new Splice({
      onAccept: () => {
        isOpen = true;
        this.#log('debug', 'stream-opened', `stream ${stream.id} to ${this.spec.service} is open`, stream);
        if (isUnix) socket?.resume();
      },
      onDone: (reason) => this.#closed(stream, reason, isOpen),
    });
    let stream: SessionStream;
    try {
      const { session } = this.#options.source;
      if (session === null) throw new Error('the session has just ended');
      stream = session.open(this.spec.service, from, splice);
    } catch (error) {
      this.#refuse(accepted, toVproxyError(error, 'no-session'));
      return;
    }
    socket = acceptBuffered(accepted, splice.onread);
    // A unix socket that is closed with its input unread shows its peer an error and not an end, so nothing may be read
    // before the open has succeeded. TCP has RST for that, and may send ahead.
    if (isUnix) socket.pause();
    this.#track(socket);
    splice.join(stream, socket);
  }

  #track(socket: net.Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }

  #refuse(socket: net.Socket, reason: VproxyError): void {
    resetSocket(socket);
    this.#log(
      'warn',
      'stream-refused',
      `a connection to ${this.#name()} was reset: ${reason.message} (${reason.code})`,
    );
  }

  #closed(stream: SessionStream, reason: VproxyError | null, wasOpen: boolean): void {
    const amount = `${stream.sentBytes} bytes sent, ${stream.receivedBytes} received`;
    if (reason === null) {
      this.#log('debug', 'stream-closed', `stream ${stream.id} to ${this.spec.service} has ended: ${amount}`, stream);
    } else if (wasOpen) {
      const message = `stream ${stream.id} to ${this.spec.service} was reset: ${reason.message} (${reason.code}); ${amount}`;
      this.#log('info', 'stream-reset', message, stream);
    } else {
      const message = `a connection to ${this.#name()} was reset: ${reason.message} (${reason.code})`;
      this.#log('warn', 'stream-refused', message, stream);
    }
  }

  #name(): string {
    return `${formatEndpoint(this.endpoint)} (${this.spec.service})`;
  }

  #log(level: 'debug' | 'info' | 'warn', event: string, message: string, stream?: SessionStream): void {
    const fields = { service: this.spec.service, endpoint: formatEndpoint(this.endpoint), stream: stream?.id ?? null };
    this.#options.log({ level, event, message, fields });
  }
}

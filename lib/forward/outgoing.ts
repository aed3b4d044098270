/** An outgoing forward (`-o`): listens here, and opens a stream to the peer's service for each connection. */
import net from 'node:net';
import { toVproxyError, type VproxyError } from '../errors.js';
import { type Log, makeEvent } from '../events.js';
import type { SessionStream } from '../session/stream.js';
import { descriptorShortage } from '../system/descriptors.js';
import { type ListenAddress, listen } from '../system/listen.js';
import { resetSocket } from '../system/sockets.js';
import type { Clock } from '../util/clock.js';
import { Roster } from '../util/roster.js';
import type { Caller, Entrance } from './endpoint-kind.js';
import { type Endpoint, entranceKindOf } from './endpoint-kinds.js';
import { filterInput, type InputFilters } from './input-filter.js';
import { endedStreamFields, NO_STREAM, type SessionSource, streamFields } from './session-source.js';
import type { Forward } from './spec.js';
import { type ForwardSpec, formatEndpoint } from './spec.js';
import { Splice } from './splice.js';

export interface OutgoingOptions {
  /** What its streams are said to belong to. Default null. */
  readonly id?: string | null;
  readonly source: SessionSource;
  readonly log: Log;
  readonly clock: Clock;
  /** How long a connection waits for a session, in milliseconds. */
  readonly waitMs: number;
  /** What comes between streams and those who connect. Default: nothing. */
  readonly filters?: InputFilters;
  /** The last of its open streams has gone. Default: nobody is told. */
  readonly onIdle?: () => void;
}

export class OutgoingForward implements Forward {
  readonly spec: ForwardSpec;
  readonly #options: OutgoingOptions;
  readonly #entrance: Entrance;
  #address: ListenAddress;
  readonly #server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
  readonly #stopping = new AbortController();
  readonly #sockets = new Roster<net.Socket>();
  #streamCount = 0;
  /** Kept, because to ask for the address in force is a system call, and every log line names it. */
  #endpointText: string;

  /** Throws `bad-argument` for an endpoint that cannot be listened on. */
  constructor(spec: ForwardSpec, options: OutgoingOptions) {
    this.spec = spec;
    this.#options = options;
    this.#endpointText = formatEndpoint(spec.endpoint);
    const kind = entranceKindOf(spec.endpoint, spec.service);
    this.#address = kind.listenAddress(spec.endpoint);
    this.#entrance = kind.createEntrance(spec.endpoint, {
      service: spec.service,
      clock: options.clock,
      onRejected: (why) => this.#logRefused(`a connection to ${this.#name(spec.service)} was closed: ${why}`),
    });
    this.#server.on('connection', (socket) => this.#accept(socket));
    this.#server.on('error', (error) => {
      if (!this.#server.listening) return;
      const fields = this.#fields(spec.service, NO_STREAM);
      options.log(makeEvent('accept-failed', `cannot accept: ${error.message}`, fields));
    });
  }

  get endpointText(): string {
    return this.#endpointText;
  }

  get openCount(): number {
    return this.#sockets.size;
  }

  get streamCount(): number {
    return this.#streamCount;
  }

  /** The address in force, with the port that was picked where 0 was asked for. */
  get endpoint(): Endpoint {
    const { endpoint } = this.spec;
    const bound = this.#server.address();
    return bound === null || typeof bound === 'string' ? endpoint : ({ ...endpoint, port: bound.port } as Endpoint);
  }

  /** Listens. Rejects with `address-…` codes. */
  async start(): Promise<void> {
    await listen(this.#server, this.#address);
    const bound = this.#server.address();
    // Paused and started again it is where it was, also where any port would have done.
    if ('port' in this.#address && bound !== null && typeof bound === 'object')
      this.#address = { ...this.#address, port: bound.port };
    this.#endpointText = formatEndpoint(this.endpoint);
    const { service } = this.spec;
    const message = `listening on ${this.#endpointText} for ${service}`;
    this.#options.log(makeEvent('listening', message, this.#fields(service, NO_STREAM)));
  }

  /** Listens no more. */
  pause(): void {
    if (this.#server.listening) this.#server.close();
  }

  /** Stops listening and resets what is still open. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const closed = this.#server.listening ? new Promise((resolve) => this.#server.close(resolve)) : null;
    for (const socket of this.#sockets.list()) resetSocket(socket);
    await closed;
  }

  #accept(socket: net.Socket): void {
    const seat = this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.remove(seat);
      if (this.#sockets.size === 0) this.#options.onIdle?.();
    });
    const shortage = descriptorShortage(socket);
    if (shortage === null) {
      this.#entrance.receive(socket, (caller) => this.#forward(caller));
      return;
    }
    resetSocket(socket);
    const { service } = this.spec;
    this.#logRefused(`a connection to ${this.#name(service)} was reset: ${shortage} (local-error)`);
  }

  #forward(caller: Caller): void {
    const { source, waitMs } = this.#options;
    if (source.session !== null) {
      this.#open(caller);
      return;
    }
    const { socket } = caller;
    socket.once('error', () => socket.destroy());
    source.wait(waitMs, this.#stopping.signal).then(
      () => {
        if (!socket.destroyed) this.#open(caller);
      },
      (error: unknown) => this.#refuse(caller, toVproxyError(error)),
    );
  }

  #open(caller: Caller): void {
    const { service, socket } = caller;
    let isOpen = false;
    const splice = new Splice({
      clock: this.#options.clock,
      onAccept: () => {
        isOpen = true;
        const fields = this.#fields(service, streamFields(stream));
        this.#options.log(makeEvent('stream-opened', `stream ${stream.id} to ${service} is open`, fields));
        caller.opened(stream);
        // What the entrance itself writes is out by now, and nothing of the peer has come.
        filterInput(socket, this.#options.filters?.(service) ?? null);
      },
      onDone: (reason) => this.#closed(stream, reason, isOpen),
    });
    let stream: SessionStream;
    try {
      const { session } = this.#options.source;
      if (session === null) throw new Error('the session has just ended');
      stream = session.open(service, caller.from, splice);
    } catch (error) {
      this.#refuse(caller, toVproxyError(error, 'no-session'));
      return;
    }
    this.#streamCount += 1;
    stream.owner = this.#options.id ?? null;
    caller.read(splice.onread);
    splice.join(stream, socket);
  }

  #refuse(caller: Caller, reason: VproxyError): void {
    caller.refuse();
    const message = `a connection to ${this.#name(caller.service)} was reset: ${reason.message} (${reason.code})`;
    this.#logRefused(message);
  }

  #closed(stream: SessionStream, reason: VproxyError | null, wasOpen: boolean): void {
    const { clock, log } = this.#options;
    const { id, service } = stream;
    const amount = `${stream.sentBytes} bytes sent, ${stream.receivedBytes} received`;
    const fields = this.#fields(service, endedStreamFields(clock.now(), stream, reason ?? {}));
    if (reason === null) {
      log(makeEvent('stream-closed', `stream ${id} to ${service} has ended: ${amount}`, fields));
    } else if (wasOpen) {
      const message = `stream ${id} to ${service} was reset: ${reason.message} (${reason.code}); ${amount}`;
      log(makeEvent('stream-reset', message, fields));
    } else {
      const message = `a connection to ${this.#name(service)} was reset: ${reason.message} (${reason.code})`;
      log(makeEvent('stream-refused', message, fields, 'warn'));
    }
  }

  #name(service: string): string {
    return `${this.#endpointText} (${service})`;
  }

  /** A connection that no stream was opened for. */
  #logRefused(message: string): void {
    const fields = this.#fields(this.spec.service, NO_STREAM);
    this.#options.log(makeEvent('stream-refused', message, fields, 'warn'));
  }

  #fields<Facts extends object>(service: string, facts: Facts) {
    const forward = this.#options.id ?? null;
    return { forward, direction: 'outgoing', endpoint: this.#endpointText, service, ...facts };
  }
}

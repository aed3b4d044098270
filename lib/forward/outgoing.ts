/** An outgoing forward (`-o`): listens here, and opens a stream to the peer's service for each connection. */
import net from 'node:net';
import { toVproxyError, VproxyError } from '../errors.js';
import type { Log } from '../events.js';
import type { SessionStream } from '../session/stream.js';
import { descriptorShortage, type KeepDescriptor, type TakeDescriptor } from '../system/descriptors.js';
import type { ListenAddress } from '../system/sockets/listen-address.js';
import { listen, listenAdopted } from '../system/sockets/listening.js';
import { adoptSocket, descriptorOf, type OnRead, resetSocket } from '../system/sockets/node-sockets.js';
import type { Clock } from '../util/clock.js';
import { describeError } from '../util/escape.js';
import { Roster } from '../util/members/roster.js';
import {
  type Connection,
  type ConnectionCapture,
  captureConnection,
  type IndexOfStream,
  type KnownStream,
  obstacleOf,
  restoreConnection,
  restoredStream,
} from './connection.js';
import type { Caller, Entrance } from './endpoint-kind.js';
import { type Endpoint, entranceKindOf } from './endpoint-kinds.js';
import { filterInput, type InputFilters } from './input-filter.js';
import { OutgoingLog } from './outgoing-log.js';
import type { SessionSource } from './session-source.js';
import type { Forward, ForwardCapture } from './spec.js';
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

/** A connection that was accepted, until its socket is closed. */
interface Accepted {
  readonly socket: net.Socket;
  /** Null before the entrance knows what it wants. */
  caller: Caller | null;
  /** Whether a stream was opened for it. */
  hasStream: boolean;
}

/** Why a connection without a stream cannot be handed over; null where it can, or has one. */
function obstacleOfAccepted({ caller, hasStream, socket }: Accepted, name: string): string | null {
  if (hasStream || socket.destroyed) return null;
  if (caller === null) return `a connection to ${name} that has not said what it wants`;
  return caller.isUntouched ? null : `a connection to ${name} that waits for a session`;
}

/** A connection with its stream. */
interface OpenedConnection extends Connection {
  /** Null where the stream was open already in an earlier process. */
  caller: Caller | null;
}

export class OutgoingForward implements Forward {
  readonly spec: ForwardSpec;
  readonly #options: OutgoingOptions;
  readonly #log: OutgoingLog;
  readonly #entrance: Entrance;
  #address: ListenAddress;
  readonly #server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
  readonly #stopping = new AbortController();
  readonly #accepted = new Roster<Accepted>();
  readonly #connections = new Roster<OpenedConnection>();
  /** What an earlier process has left, until `goOn`: the descriptors of the listener and of connections without a stream. */
  #restored: { readonly listener: number | null; readonly waiting: readonly number[] } | null = null;
  #streamCount = 0;
  /** Kept, because to ask for the address in force is a system call, and every log line names it. */
  #endpointText: string;

  /** Throws `bad-argument` for an endpoint that cannot be listened on. */
  constructor(spec: ForwardSpec, options: OutgoingOptions) {
    this.spec = spec;
    this.#options = options;
    this.#endpointText = formatEndpoint(spec.endpoint);
    this.#log = new OutgoingLog({
      log: options.log,
      clock: options.clock,
      id: options.id ?? null,
      service: spec.service,
      endpointText: () => this.#endpointText,
    });
    const kind = entranceKindOf(spec.endpoint, spec.service);
    this.#address = kind.listenAddress(spec.endpoint);
    this.#entrance = kind.createEntrance(spec.endpoint, {
      service: spec.service,
      clock: options.clock,
      onRejected: (why) => this.#log.refused(`a connection to ${this.#log.nameOf(spec.service)} was closed: ${why}`),
    });
    this.#server.on('connection', (socket) => this.#accept(socket));
    this.#server.on('error', (error) => {
      if (this.#server.listening) this.#log.failed(`cannot accept: ${describeError(error)}`);
    });
  }

  get endpointText(): string {
    return this.#endpointText;
  }

  get openCount(): number {
    return this.#accepted.size;
  }

  get streamCount(): number {
    return this.#streamCount;
  }

  /** Of a TCP address that is listened on. */
  get #port(): number | null {
    const bound = this.#server.address();
    return bound === null || typeof bound === 'string' ? null : bound.port;
  }

  /** The address in force, with the port that was picked where 0 was asked for. */
  get endpoint(): Endpoint {
    const { endpoint } = this.spec;
    const port = this.#port;
    return port === null ? endpoint : ({ ...endpoint, port } as Endpoint);
  }

  /** Listens. Rejects with `address-…` codes. */
  async start(): Promise<void> {
    await listen(this.#server, this.#address);
    // Paused and started again it is where it was, also where any port would have done.
    const port = this.#port;
    if ('port' in this.#address && port !== null) this.#address = { ...this.#address, port };
    this.#endpointText = formatEndpoint(this.endpoint);
    this.#log.listening();
  }

  /** Listens no more. */
  pause(): void {
    if (this.#server.listening) this.#server.close();
  }

  /** Stops listening and resets what is still open. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const closed = this.#server.listening ? new Promise((resolve) => this.#server.close(resolve)) : null;
    for (const { socket } of this.#accepted.list()) resetSocket(socket);
    await closed;
  }

  // ---- connections ----------------------------------------------------------------------------------------------

  #accept(socket: net.Socket): void {
    const accepted = this.#seat(socket);
    const shortage = descriptorShortage(socket);
    if (shortage === null) {
      this.#entrance.receive(socket, (caller) => {
        accepted.caller = caller;
        this.#forward(caller, accepted);
      });
      return;
    }
    resetSocket(socket);
    this.#log.refused(`a connection to ${this.#log.nameOf(this.spec.service)} was reset: ${shortage} (local-error)`);
  }

  #seat(socket: net.Socket): Accepted {
    const accepted: Accepted = { socket, caller: null, hasStream: false };
    const seat = this.#accepted.add(accepted);
    socket.once('close', () => {
      this.#accepted.remove(seat);
      if (this.#accepted.size === 0) this.#options.onIdle?.();
    });
    return accepted;
  }

  #forward(caller: Caller, accepted: Accepted): void {
    const { source, waitMs } = this.#options;
    if (source.session !== null) {
      this.#open(caller, accepted);
      return;
    }
    const { socket } = caller;
    socket.once('error', () => socket.destroy());
    source.wait(waitMs, this.#stopping.signal).then(
      () => {
        if (!socket.destroyed) this.#open(caller, accepted);
      },
      (error: unknown) => this.#refuse(caller, toVproxyError(error)),
    );
  }

  #open(caller: Caller, accepted: Accepted): void {
    const { service, socket } = caller;
    let connection: OpenedConnection & { readonly stream: SessionStream };
    try {
      connection = this.#connect(false, (splice) => {
        const { session } = this.#options.source;
        if (session === null) throw new Error('the session has just ended');
        return session.open(service, caller.from, splice);
      });
    } catch (error) {
      this.#refuse(caller, toVproxyError(error, 'no-session'));
      return;
    }
    connection.caller = caller;
    accepted.hasStream = true;
    this.#streamCount += 1;
    const { splice, stream } = connection;
    stream.owner = this.#options.id ?? null;
    caller.read(splice.onread);
    splice.join(stream, socket);
  }

  /** A new splice, for the stream that `streamOf` gives. Throws what that throws. */
  #connect<S extends SessionStream | KnownStream>(
    isOpen: boolean,
    streamOf: (splice: Splice) => S,
  ): OpenedConnection & { readonly stream: S } {
    const splice = new Splice({
      clock: this.#options.clock,
      onAccept: () => this.#opened(connection),
      onDone: (reason) => {
        this.#connections.remove(seat);
        this.#log.closed(connection.stream, reason, connection.isOpen);
      },
    });
    const connection = { stream: streamOf(splice), splice, caller: null, isOpen, isFiltered: false, egress: null };
    const seat = this.#connections.add(connection);
    return connection;
  }

  /** The peer has accepted the stream of a connection. */
  #opened(connection: OpenedConnection): void {
    const { caller, stream } = connection;
    connection.isOpen = true;
    this.#log.opened(stream);
    if (caller === null) return;
    caller.opened(stream);
    // What the entrance itself writes is out by now, and nothing of the peer has come.
    const filter = this.#options.filters?.(stream.service) ?? null;
    connection.isFiltered = filter !== null;
    filterInput(caller.socket, filter);
  }

  // ---- handing over ---------------------------------------------------------------------------------------------

  obstacles(): string[] {
    const name = this.#log.nameOf(this.spec.service);
    const early = this.#accepted.list().map((accepted) => obstacleOfAccepted(accepted, name));
    const opened = this.#connections.list().map((connection) => {
      const { caller, isOpen, stream } = connection;
      if (!isOpen && caller?.isUntouched === false)
        return `stream ${stream.id} to ${name}, which the peer has not answered`;
      return obstacleOf(connection, name);
    });
    return [...early, ...opened].filter((text) => text !== null);
  }

  capture(keep: KeepDescriptor, indexOf: IndexOfStream): ForwardCapture {
    const [obstacle] = this.obstacles();
    if (obstacle !== undefined) throw new VproxyError('upgrade-failed', obstacle);
    const fd = descriptorOf(this.#server);
    const waiting = this.#accepted.list().filter(({ hasStream, socket }) => !hasStream && !socket.destroyed);
    return {
      isStarted: fd !== null,
      streamCount: this.#streamCount,
      connections: this.#connections
        .list()
        .map((connection) => captureConnection(connection, this.#options.clock, keep, indexOf)),
      listener: fd === null ? null : keep(fd),
      port: 'port' in this.#address ? this.#address.port : null,
      waiting: waiting.map(({ socket }) => descriptorOf(socket)).flatMap((each) => (each === null ? [] : [keep(each)])),
    };
  }

  restore(capture: ForwardCapture, take: TakeDescriptor, streams: readonly SessionStream[]): void {
    const { listener, port, waiting } = capture;
    this.#streamCount = capture.streamCount;
    if ('port' in this.#address && port !== null) {
      this.#address = { ...this.#address, port };
      this.#endpointText = formatEndpoint({ ...this.spec.endpoint, port } as Endpoint);
    }
    for (const connection of capture.connections) this.#restore(connection, take, streams);
    this.#restored = {
      listener: listener === null ? null : take(listener),
      waiting: waiting.map((index) => take(index)),
    };
  }

  async goOn(): Promise<void> {
    const restored = this.#restored;
    this.#restored = null;
    for (const { splice } of this.#connections.list()) splice.goOn();
    for (const fd of restored?.waiting ?? []) this.#accept(adoptSocket(fd));
    const listener = restored?.listener ?? null;
    if (listener !== null) await listenAdopted(this.#server, this.#address, listener);
  }

  #restore(capture: ConnectionCapture, take: TakeDescriptor, streams: readonly SessionStream[]): void {
    const connection = this.#connect(capture.isOpen, () => restoredStream(capture, streams, this.#options.clock));
    // Where the peer has not accepted it, it is for the entrance to say when the socket is read.
    const read = capture.isOpen ? null : (onread: OnRead) => connection.caller?.read(onread);
    const socket = restoreConnection(connection, capture, take, read);
    if (socket === null) return;
    const accepted = this.#seat(socket);
    accepted.hasStream = true;
    if (!capture.isOpen) this.#entrance.receive(socket, (caller) => (connection.caller = caller));
  }

  #refuse(caller: Caller, { code, message }: VproxyError): void {
    caller.refuse();
    this.#log.refused(`a connection to ${this.#log.nameOf(caller.service)} was reset: ${message} (${code})`);
  }
}

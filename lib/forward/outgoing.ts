/** An outgoing forward (`-o`): listens here and opens a stream to the peer's service for each connection. */
import net from 'node:net';
import { toVproxyError, VproxyError } from '../errors.js';
import type { SessionStream } from '../session/stream.js';
import { descriptorShortage, type KeepDescriptor } from '../system/descriptors.js';
import { type AskedAddress, type FileAccess, resolveAddress } from '../system/sockets/listen-address.js';
import { listen, listenAdopted } from '../system/sockets/listening.js';
import { adoptSocket, descriptorOf, resetSocket } from '../system/sockets/node-sockets.js';
import { describeError } from '../util/escape.js';
import { type Accepted, type Caller, type Connection, Connections, type IndexOfStream } from './connection.js';
import type { Entrance } from './endpoint-kind.js';
import { entranceKindOf } from './endpoint-kinds.js';
import type { Endpoint } from './forms/endpoint-forms.js';
import { ForwardLog, type ForwardOptions } from './forward-log.js';
import type { SessionSource } from './session-source.js';
import { type Forward, type ForwardSpec, type ForwardState, formatEndpoint, type Predecessor } from './spec.js';

export interface OutgoingOptions extends ForwardOptions {
  readonly source: SessionSource;
  /** How long a connection waits for a session, in milliseconds. */
  readonly waitMs: number;
}

export class OutgoingForward implements Forward {
  readonly spec: ForwardSpec;
  readonly #options: OutgoingOptions;
  readonly #log: ForwardLog;
  readonly #entrance: Entrance;
  #address: AskedAddress;
  /** The access of the socket file that it listens on; null for an address. */
  #access: FileAccess | null = null;
  readonly #server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
  readonly #stopping = new AbortController();
  readonly #connections: Connections;
  /** Inherited from the previous process, until `goOn`: the listener's descriptor, and sockets without a stream. */
  #left: { readonly listener: number | null; readonly early: readonly net.Socket[] } | null = null;
  streamCount = 0;
  bound: Endpoint;
  /** Cached: reading the bound address is a system call, and every log line names it. */
  endpointText: string;

  /** Throws `bad-argument` for an endpoint that cannot be listened on. */
  constructor(spec: ForwardSpec, options: OutgoingOptions, predecessor: Predecessor | null = null) {
    this.spec = spec;
    this.#options = options;
    this.bound = spec.endpoint;
    this.endpointText = formatEndpoint(spec.endpoint);
    this.#log = new ForwardLog(spec, options, () => this.endpointText);
    const kind = entranceKindOf(spec.endpoint, spec.service);
    this.#address = kind.listenAddress(spec.endpoint);
    this.#entrance = kind.createEntrance(spec.endpoint, {
      service: spec.service,
      clock: options.clock,
      onRejected: (why) =>
        this.#log.refused(`a connection to ${this.#log.nameOf()} was closed: ${why}`, 'bad-argument'),
    });
    this.#connections = new Connections({
      clock: options.clock,
      filters: this.#entrance.filters ?? options.filters,
      onAccept: (connection) => this.#opened(connection),
      onDone: ({ isOpen, stream }, reason) => this.#log.closed(stream, reason, isOpen),
      onLeft: () => {
        if (this.openCount === 0) options.onIdle?.();
      },
    });
    if (predecessor !== null) this.#succeed(predecessor);
    this.#server.on('connection', (socket) => this.#accept(socket));
    this.#server.on('error', (error) => {
      if (this.#server.listening) this.#log.failed(`cannot accept: ${describeError(error)}`);
    });
  }

  get openCount(): number {
    return this.#connections.size;
  }

  get isServing(): boolean {
    return this.#connections.size > this.#connections.early.length;
  }

  /** Listens. Rejects with `address-…` codes, and `bad-argument` for an unknown user or group. */
  async start(): Promise<void> {
    await this.#entrance.prepare?.();
    const address = await resolveAddress(this.#address);
    this.#access = 'path' in address ? (address.access ?? null) : null;
    await listen(this.#server, address);
    // Keep the port over pause and start, even if any port was asked for.
    const bound = this.#server.address();
    if (bound !== null && typeof bound === 'object') this.#usePort(bound.port);
    this.#log.listening();
  }

  #usePort(port: number): void {
    if (!('port' in this.#address)) return;
    this.#address = { ...this.#address, port };
    this.bound = { ...this.spec.endpoint, port } as Endpoint;
    this.endpointText = formatEndpoint(this.bound);
  }

  pause(): void {
    if (this.#server.listening) this.#server.close();
  }

  /** Stops listening and resets what is still open. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const closed = this.#server.listening ? new Promise((resolve) => this.#server.close(resolve)) : null;
    this.#connections.stop();
    await closed;
  }

  // ---- connections ----------------------------------------------------------------------------------------------

  #accept(socket: net.Socket): void {
    const accepted = this.#connections.seat(socket, false);
    const shortage = descriptorShortage(socket);
    if (shortage === null) {
      this.#entrance.receive(socket, (caller) => {
        accepted.caller = caller;
        this.#forward(caller, accepted);
      });
      return;
    }
    resetSocket(socket);
    this.#log.refused(`a connection to ${this.#log.nameOf()} was reset: ${shortage} (local-error)`, 'local-error');
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
    const { id = null, source } = this.#options;
    let connection: Connection<SessionStream>;
    try {
      connection = this.#connections.connect(
        (splice) => {
          if (source.session === null) throw new Error('the session has just ended');
          return source.session.open(service, caller.from, splice);
        },
        { isOpen: false, caller },
      );
    } catch (error) {
      this.#refuse(caller, toVproxyError(error, 'no-session'));
      return;
    }
    accepted.hasStream = true;
    this.streamCount += 1;
    const { splice, stream } = connection;
    stream.owner = id;
    if (caller.request !== undefined) stream.send(caller.request, 0, caller.request.length, false);
    caller.read(splice.onread);
    // Reading resumes once the request has been sent.
    if (stream.isWaiting) socket.pause();
    splice.join(stream, socket);
  }

  /** The peer has accepted the stream of a connection. */
  #opened(connection: Connection): void {
    const { caller, stream } = connection;
    connection.isOpen = true;
    this.#log.opened(stream);
    caller?.opened(stream);
  }

  // ---- hand-over ------------------------------------------------------------------------------------------------

  obstacles(): string[] {
    const name = this.#log.nameOf();
    const early = this.#connections.early.map(({ caller }) => {
      if (caller === null) return `a connection to ${name} that has not sent its request yet`;
      return caller.isUntouched ? null : `a connection to ${name} that is waiting for a session`;
    });
    return [...early.filter((text) => text !== null), ...this.#connections.obstacles(name)];
  }

  capture(keep: KeepDescriptor, indexOf: IndexOfStream): ForwardState {
    const [obstacle] = this.obstacles();
    if (obstacle !== undefined) throw new VproxyError('upgrade-failed', obstacle);
    const fd = descriptorOf(this.#server);
    const early = this.#connections.early.map(({ socket }) => descriptorOf(socket)).filter((each) => each !== null);
    return {
      isStarted: fd !== null,
      streamCount: this.streamCount,
      connections: this.#connections.capture(keep, indexOf),
      listener: fd === null ? null : keep(fd),
      port: 'port' in this.#address ? this.#address.port : null,
      access: this.#access,
      early: early.map((each) => keep(each)),
    };
  }

  #succeed({ state, ...inheritance }: Predecessor): void {
    const { connections, early = [], listener = null, port = null, access = null, streamCount } = state;
    this.#access = access;
    const { streams, take } = inheritance;
    this.streamCount = streamCount;
    for (const { stream: index, isOpen } of connections) {
      const stream = typeof index === 'number' && isOpen ? streams[index] : undefined;
      if (stream !== undefined) this.#log.tally.follow(stream);
    }
    if (port !== null) this.#usePort(port);
    for (const [connection, socket] of this.#connections.restore(connections, inheritance))
      this.#entrance.receive(socket, (caller) => (connection.caller = caller));
    this.#left = {
      listener: listener === null ? null : take(listener),
      early: early.map((index) => adoptSocket(take(index))),
    };
  }

  async goOn(): Promise<void> {
    const { early = [], listener = null } = this.#left ?? {};
    this.#left = null;
    this.#connections.goOn();
    if (this.#entrance.prepare !== undefined) await this.#entrance.prepare();
    for (const socket of early) this.#accept(socket);
    if (listener === null) return;
    const access = this.#access ?? undefined;
    const address = 'path' in this.#address ? { path: this.#address.path, ...(access && { access }) } : this.#address;
    await listenAdopted(this.#server, address, listener);
  }

  #refuse(caller: Caller, reason: VproxyError): void {
    caller.refuse();
    this.#log.reset(caller.service, reason);
  }
}

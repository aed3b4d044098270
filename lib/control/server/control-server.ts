/** The control server of a process: HTTP with JSON on a unix socket (docs/control.md). Lightweight until a client connects. */
import type { LogEvent } from '../../events.js';
import type { Proxy } from '../../proxy/proxy.js';
import type { KeepDescriptor, TakeDescriptor } from '../../system/descriptors.js';
import type { ListenAddress } from '../../system/sockets/listen-address.js';
import type { InheritedSocket } from '../../system/sockets/listening.js';
import type { HostPort } from '../../util/addresses/host-port.js';
import { type Clock, systemClock } from '../../util/clock.js';
import { type ControlContext, type ProcessControl, RESTART } from '../context/context.js';
import { EventLoopDelay } from '../context/event-loop-delay.js';
import { EventRing } from '../context/event-ring.js';
import { StreamRates } from '../context/stream-rates.js';
import { type HttpHandlers, HttpService } from './http-service.js';

/** Options of a control server. */
export interface ControlServerOptions {
  /** The proxy that requests inspect and change. */
  readonly proxy: Proxy;
  /** The process that requests inspect, reload and stop. */
  readonly process: ProcessControl;
  /** Default `systemClock`. */
  readonly clock?: Clock;
}

/** A listener of a control server, for a successor of this process. */
export interface ListenerCapture {
  readonly serves: 'control' | 'metrics';
  /** Null if the process inherited the socket. */
  readonly address: ListenAddress | null;
  readonly descriptor: number;
  /** The descriptors of accepted connections that were not read. */
  readonly unread: readonly number[];
}

/** What a successor takes over with an address. */
interface TakenOver {
  readonly fd: number;
  readonly unread: readonly number[];
}

/** Serves control requests for a proxy and its process. */
export class ControlServer {
  readonly #context: ControlContext;
  readonly #clock: Clock;
  readonly #services: { readonly serves: ListenerCapture['serves']; readonly http: HttpService }[] = [];
  readonly #onLog = (event: LogEvent): void => this.record(event);
  readonly #log = (event: LogEvent): void => void this.#context.proxy.emit('log', event);

  /** Starts recording the events of the proxy. */
  constructor({ proxy, process, clock = systemClock }: ControlServerOptions) {
    this.#clock = clock;
    this.#context = {
      proxy,
      process,
      ring: new EventRing(),
      rates: new StreamRates(() => proxy.listStreams(), clock),
      eventLoopDelay: new EventLoopDelay(clock),
      clock,
      webSockets: new Set(),
    };
    proxy.on('log', this.#onLog);
  }

  /** Adds an event from outside the proxy to those that clients follow. */
  record(event: LogEvent): void {
    this.#context.ring.record(event);
  }

  /**
   * Listens for requests. A unix socket has mode 0600; a missing folder is created, and an existing file is replaced only
   * if no process answers on it. An inherited socket is used as is. Rejects with `address-in-use`, `address-denied` or
   * `address-unavailable`.
   */
  async listen(address: ListenAddress | InheritedSocket): Promise<void> {
    await this.#begin('control', address);
  }

  /**
   * Serves only `/metrics`, at most a second old, and `/healthz` and `/readyz` for probes, to anyone who can connect; resolves
   * with the actual address. Rejects as `listen` does.
   */
  async listenForMetrics(address: HostPort): Promise<HostPort> {
    const got = await this.#begin('metrics', address);
    return 'port' in got ? got : address;
  }

  /** The paths of the sockets on which it takes requests, except inherited ones. */
  get paths(): string[] {
    return this.#services.flatMap(({ http: { address } }) =>
      address !== null && 'path' in address ? [address.path] : [],
    );
  }

  /**
   * Whether a request that may change something, or the rest of a WebSocket, is in progress: a successor would not have it.
   *
   * @internal
   */
  get isChanging(): boolean {
    return (
      this.#services.some(({ serves, http }) => serves === 'control' && http.isChanging) ||
      [...this.#context.webSockets].some(
        ({ socket, hasEnded, isStill }) => hasEnded && !isStill && socket.bufferedAmount > 0,
      )
    );
  }

  /**
   * Lets new connections wait for a second, unread: a successor takes them over.
   *
   * @internal
   */
  letWait(): void {
    for (const { http } of this.#services) http.letWait();
  }

  /** Stops listening, and closes every connection. */
  async close(): Promise<void> {
    const { proxy, ring, eventLoopDelay, webSockets } = this.#context;
    for (const { socket } of webSockets) socket.close(RESTART, 'shutdown: vproxy is stopping');
    proxy.off('log', this.#onLog);
    ring.close();
    eventLoopDelay.stop();
    await Promise.all(this.#services.splice(0).map(({ http }) => http.close()));
  }

  /**
   * The listeners for a successor of this process; requests in progress are not included.
   *
   * @internal
   */
  capture(keep: KeepDescriptor): ListenerCapture[] {
    return this.#services.flatMap(({ serves, http }) => {
      const { address, descriptor, unread } = http;
      return descriptor === null ? [] : [{ serves, address, descriptor: keep(descriptor), unread: unread.map(keep) }];
    });
  }

  /**
   * Takes over the listeners of a predecessor of this process. Rejects as `listen` does.
   *
   * @internal
   */
  async restore(captured: readonly ListenerCapture[], take: TakeDescriptor): Promise<void> {
    await Promise.all(
      captured.map(({ serves, address, descriptor, unread }) => {
        const taken = { fd: take(descriptor), unread: unread.map(take) };
        return this.#begin(serves, address ?? taken, taken);
      }),
    );
  }

  /** `taken`: what already listens there. */
  async #begin(
    serves: ListenerCapture['serves'],
    address: ListenAddress | InheritedSocket,
    { fd, unread }: Partial<TakenOver> = {},
  ): Promise<ListenAddress | InheritedSocket> {
    const http = new HttpService({
      clock: this.#clock,
      log: this.#log,
      isOperators: serves === 'control',
      load: async () => {
        await this.#context.proxy.whole;
        return serves === 'control' ? this.#loadRoutes() : this.#loadPages();
      },
    });
    const got = await http.listen(address, fd);
    this.#services.push({ serves, http });
    for (const each of unread ?? []) http.serveAccepted(each);
    if (this.#context.ring.isClosed) await this.close();
    return got;
  }

  async #loadRoutes(): Promise<HttpHandlers> {
    const [{ RequestHandler }, { ROUTES }] = await Promise.all([
      import('./request-handler.js'),
      import('../routes/table.js'),
    ]);
    const handler = new RequestHandler(ROUTES, this.#context);
    return {
      onRequest: (request, response, hold) => void handler.handle(request, response, hold),
      onUpgrade: (request, socket) => void handler.upgrade(request, socket),
    };
  }

  async #loadPages(): Promise<HttpHandlers> {
    const { servePages } = await import('./public-pages.js');
    const serve = servePages(this.#context, this.#clock);
    return { onRequest: (request, response) => void serve(request, response) };
  }
}

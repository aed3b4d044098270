/**
 * The control server of a process: HTTP with JSON on a unix socket (docs/control.md). It is light until it listens, and
 * then needs nothing more of the program's files, which an update may have replaced by the time of a request.
 */
import type { Proxy } from '../proxy/proxy.js';
import { type Clock, systemClock } from '../util/clock.js';
import type { HostPort } from '../util/host-port.js';
import type { ListenAddress } from '../util/listen.js';
import type { InheritedSocket } from '../util/listen-inherited.js';
import type { LogEvent } from '../util/log-event.js';
import type { ControlContext } from './control-context.js';
import { EventLoopDelay } from './event-loop-delay.js';
import { EventRing } from './event-ring.js';
import type { HttpService } from './http-service.js';
import type { ProcessControl } from './process-control.js';
import { StreamEnds } from './stream-ends.js';
import { StreamRates } from './stream-rates.js';

/** What a control server speaks for. */
export interface ControlServerOptions {
  /** What is looked at and changed. */
  readonly proxy: Proxy;
  /** What can be done to the process. */
  readonly process: ProcessControl;
  /** Default `systemClock`. */
  readonly clock?: Clock;
}

/** Serves control requests for a proxy and its process. */
export class ControlServer {
  readonly #context: ControlContext;
  readonly #clock: Clock;
  readonly #services: HttpService[] = [];
  readonly #onLog = (event: LogEvent): void => this.record(event);

  /** Keeps the events of the proxy from now on. */
  constructor({ proxy, process, clock = systemClock }: ControlServerOptions) {
    this.#clock = clock;
    this.#context = {
      proxy,
      process,
      ring: new EventRing(),
      rates: new StreamRates(() => proxy.listStreams(), clock),
      ends: new StreamEnds(),
      eventLoopDelay: new EventLoopDelay(clock),
    };
    proxy.on('log', this.#onLog);
  }

  /** Takes up an event that is not the proxy's, for those who follow events. */
  record(event: LogEvent): void {
    this.#context.ring.record(event);
  }

  /**
   * Listens for requests. A unix socket has mode 0600, its folder is made where it is missing, and a file that is there
   * already is replaced only if nobody answers. A socket that this process was started with is taken as it is. Rejects with
   * `address-in-use`, `address-denied` or `address-unavailable`.
   */
  async listen(address: ListenAddress | InheritedSocket): Promise<void> {
    const [{ HttpService }, { RequestHandler }, { ROUTES }] = await Promise.all([
      import('./http-service.js'),
      import('./request-handler.js'),
      import('./routes.js'),
    ]);
    const handler = new RequestHandler(ROUTES, this.#context);
    const service = new HttpService({
      clock: this.#clock,
      onRequest: (request, response) => void handler.handle(request, response),
      onUpgrade: (request, socket) => void handler.upgrade(request, socket),
    });
    await this.#begin(service, address);
  }

  /**
   * Listens where only `GET /metrics` is answered; resolved with the address that it got. Rejects as `listen` does.
   * Whoever can connect there can read the figures.
   */
  async listenForMetrics(address: HostPort): Promise<HostPort> {
    const [{ HttpService }, { answerMetrics }] = await Promise.all([
      import('./http-service.js'),
      import('./metrics-handler.js'),
    ]);
    const service = new HttpService({
      clock: this.#clock,
      onRequest: (request, response) => answerMetrics(this.#context, request, response),
    });
    const got = await this.#begin(service, address);
    return 'port' in got ? got : address;
  }

  /** Stops listening, and closes every connection. */
  async close(): Promise<void> {
    const { proxy, ring, eventLoopDelay } = this.#context;
    proxy.off('log', this.#onLog);
    ring.close();
    eventLoopDelay.stop();
    await Promise.all(this.#services.splice(0).map((service) => service.close()));
  }

  async #begin(
    service: HttpService,
    address: ListenAddress | InheritedSocket,
  ): Promise<ListenAddress | InheritedSocket> {
    const got = await service.listen(address);
    this.#services.push(service);
    if (this.#context.ring.isClosed) await this.close();
    return got;
  }
}

/**
 * The control server of a process: HTTP with JSON on a unix socket (docs/control.md). It is light until it listens, and
 * then needs nothing more of the program's files, which an update may have replaced by the time of a request.
 */

import type { LogEvent, LogLevel } from '../../events.js';
import type { ChannelOptions } from '../../proxy/channel-options.js';
import type { Proxy } from '../../proxy/proxy.js';
import type { ChannelChanges } from '../../status/types.js';
import type { InheritedSocket, ListenAddress } from '../../system/listen.js';
import type { HostPort } from '../../util/addresses.js';
import { type Clock, systemClock } from '../../util/clock.js';
import { EventLoopDelay } from './event-loop-delay.js';
import { EventRing } from './events.js';
import type { HttpService } from './http-service.js';
import { StreamEnds } from './join-stream.js';
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
      import('../routes/table.js'),
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

// What the handlers of requests work on.

export interface ControlContext {
  readonly proxy: Proxy;
  readonly process: ProcessControl;
  readonly ring: EventRing;
  readonly rates: StreamRates;
  readonly ends: StreamEnds;
  readonly eventLoopDelay: EventLoopDelay;
}

// What a control server can do with the process that it is in, besides its proxy.

/** Given by the program; the command line has its own. */
export interface ProcessControl {
  /** The operator's name for the process, or null. */
  readonly name: string | null;
  /** Program and version, such as `vproxy 0.1.0`. */
  readonly version: string;
  /** What the log shows. Set by requests. */
  logLevel: LogLevel;
  /** What is in force: the form of a configuration file, as a value for JSON. */
  readonly config: unknown;
  /** What a channel gets that a request adds and says nothing about. Default: the defaults of `ChannelOptions`. */
  readonly channelDefaults?: Omit<ChannelOptions, 'address' | 'label' | 'group' | 'forwards' | 'template'>;
  /**
   * Reads the configuration again and puts it in force. Rejects with `bad-file`, `bad-argument` or `address-…` codes,
   * and nothing has changed then.
   */
  reload(): Promise<ChannelChanges>;
  /** Opens no more streams, and ends the process when those that are open have ended, or after `timeoutMs`. */
  drain(timeoutMs: number): void;
  /** Ends the process now, in order. */
  stop(): void;
}

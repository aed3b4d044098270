/** A service that vproxy itself serves where it is allowed; its code is loaded only there. */
import { isDeepStrictEqual } from 'node:util';
import { VproxyError } from '../errors.js';
import { type Log, makeEvent } from '../events.js';
import type { ServiceHandler, ServiceRegistry } from '../forward/service-registry.js';
import { MuxStream } from '../session/mux-stream.js';
import { describeError, escapeText } from '../util/escape.js';

export interface StreamServer<P = unknown> {
  /** Called with the permission for future requests: once it is loaded, and when it has changed. Default: there is only one. */
  allow?(permission: P): void;
  /** Called when the permission is removed: deny new work until the next `allow`. Default: open streams continue. */
  withdraw?(): void;
  /** Takes over an accepted stream. */
  serve(stream: MuxStream): void;
  /** Whether work that a stream requested is still running, even if the stream has closed. Default: none outlives its stream. */
  isServing?(stream: MuxStream): boolean;
  /** Work that has outlived its stream, human-readable: an upgrade and a drain wait for it. Default: none. */
  readonly unfinished?: readonly string[];
  /** Ends that soon, and logs it as any other end. */
  endUnfinished?(): void;
  /** Ends all requested work within half a second. */
  stop(): Promise<void>;
}

interface BuiltInServiceOptions<P> {
  readonly name: string;
  readonly registry: ServiceRegistry;
  readonly log: Log;
  /** Loads the code and creates the server with this permission. */
  readonly load: (permission: P) => Promise<StreamServer<P>>;
}

/** A service of one channel. Call `start` once, then `stop` once; the permission `P` may change at any time. */
export class BuiltInService<P> {
  readonly #options: BuiltInServiceOptions<P>;
  #permission: P | null = null;
  /** Null before the first permission, and after a failure. */
  #loading: Promise<StreamServer<P>> | null = null;
  /** Null until it is loaded. */
  #server: StreamServer<P> | null = null;
  #isStarted = false;
  #isStopped = false;

  constructor(options: BuiltInServiceOptions<P>) {
    this.#options = options;
  }

  /**
   * Returns a function that applies a permission by `allow`, and cannot fail if called in the same turn. Throws
   * `bad-argument` if another service has the name.
   */
  prepare(permission: P | null): () => void {
    const { name, registry } = this.#options;
    if (permission !== null && this.#permission === null) registry.requireFree(name);
    return () => this.allow(permission);
  }

  /** Applies a permission to future streams; null withdraws the service. Throws `bad-argument` if another service has its name. */
  allow(permission: P | null): void {
    const { name, registry } = this.#options;
    if (isDeepStrictEqual(permission, this.#permission)) return;
    if (permission === null) registry.remove(name, this.#serve);
    else if (this.#permission === null) registry.add(name, this.#serve);
    this.#permission = permission;
    this.#tell();
    if (this.#isStarted) void this.#load();
  }

  /** Loads the code if there is a permission. The first stream would be too late: a newer version may be installed by then. */
  start(): void {
    this.#isStarted = true;
    void this.#load();
  }

  /** Work that has outlived its stream: see {@link StreamServer}. */
  get unfinished(): readonly string[] {
    return this.#server?.unfinished ?? [];
  }

  endUnfinished(): void {
    this.#server?.endUnfinished?.();
  }

  /** Ends the requested work. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#loading?.then(
      (server) => server.stop(),
      () => undefined,
    );
  }

  #load(): Promise<StreamServer<P>> | null {
    if (this.#permission === null || this.#isStopped) return null;
    if (this.#loading === null) {
      this.#loading = this.#options.load(this.#permission);
      this.#loading.then(
        (server) => {
          this.#server = server;
          this.#tell();
        },
        (error: unknown) => this.#fail(error),
      );
    }
    return this.#loading;
  }

  #tell(): void {
    if (this.#permission === null) this.#server?.withdraw?.();
    else this.#server?.allow?.(this.#permission);
  }

  readonly #serve: ServiceHandler = (incoming, session) => {
    const stream = MuxStream.accept(session, incoming);
    const refuse = () => stream.destroy(new VproxyError('internal', `service ${this.#options.name} cannot be served`));
    const server = this.#load();
    if (server === null) refuse();
    return server?.then((found) => {
      if (this.#isStopped || this.#permission === null) refuse();
      else if (!stream.destroyed) {
        incoming.isServed = () => found.isServing?.(stream) ?? false;
        found.serve(stream);
      }
    }, refuse);
  };

  /** The next stream retries. */
  #fail(error: unknown): void {
    const { name, log } = this.#options;
    this.#loading = null;
    const message = `service ${name} cannot be served: ${escapeText(describeError(error), 200)}`;
    log(makeEvent('service-failed', message, { service: name }));
  }
}

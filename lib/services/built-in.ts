/** A service that vproxy itself serves where it is allowed; its code is loaded only there. */
import { isDeepStrictEqual } from 'node:util';
import { VproxyError } from '../errors.js';
import { type Log, makeEvent } from '../events.js';
import type { ServiceHandler, ServiceRegistry } from '../forward/service-registry.js';
import { MuxStream } from '../session/mux-stream.js';
import { describeError, escapeText } from '../util/escape.js';

export interface StreamServer<P = unknown> {
  /**
   * Called with the permission for future requests, once it is loaded and when it has changed; null: deny new work. Default:
   * there is only one, and open streams continue without it.
   */
  allow?(permission: P | null): void;
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
  /** Whether the rule of the service denies it. */
  #isDenied = false;
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

  /** Applies a rule that denies the service, though it is still offered, or none. */
  deny(isDenied: boolean): void {
    if (isDenied === this.#isDenied) return;
    this.#isDenied = isDenied;
    this.#tell();
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

  get #granted(): P | null {
    return this.#isDenied ? null : this.#permission;
  }

  #tell(): void {
    this.#server?.allow?.(this.#granted);
  }

  readonly #serve: ServiceHandler = (incoming, session) => {
    const stream = MuxStream.accept(session, incoming);
    const { name } = this.#options;
    const refuse = () => {
      const isAllowed = this.#granted !== null;
      const what = `service ${name} ${isAllowed ? 'cannot be served' : 'is no longer allowed'}`;
      stream.destroy(new VproxyError(isAllowed ? 'internal' : 'denied', what));
    };
    const server = this.#load();
    if (server === null) refuse();
    return server?.then((found) => {
      if (this.#isStopped || this.#granted === null) refuse();
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

/**
 * The storage broker: passes each call from a wrapper in the guest to one emulator, which answers it.
 */

import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { EventEmitter } from 'eventemitter3';
import { toVproxyError, VproxyError } from '../errors.js';
import { descriptorShortage } from '../system/descriptors.js';
import { listenAt } from '../system/sockets/listen-at.js';
import { descriptorOf } from '../system/sockets/node-sockets.js';
import { Budget } from '../util/bounds.js';
import { type Clock, systemClock } from '../util/clock.js';
import { type EmulatorLink, type LinkOutcome } from './emulator-link.js';
import { EmulatorPool, NO_PEER_SERVICE, type StorageEmulatorChange, type StoragePeerService } from './emulator-pool.js';
import { encodeFailure, encodeRequest } from './wire.js';
import { WrapperCall } from './wrapper-call.js';

/** Options of a broker. */
export interface StorageBrokerOptions {
  /** The peer's service `storage`. Default: none, only attached emulators answer. */
  readonly peer?: StoragePeerService;
  /** Limit on concurrent calls to the peer's service. Default 1. */
  readonly parallel?: number;
  /** The name of this virtual machine, put into each request as `vm`. Default: none. */
  readonly vm?: string;
  /** Limit on connected wrappers. Default 1024. */
  readonly maxCalls?: number;
  /** Limit on attached emulators. Default 64. */
  readonly maxAttached?: number;
  /** Limit on bytes of requests and replies buffered for all calls together. Default 256 MiB. */
  readonly maxHeldBytes?: number;
  /** Default: the system's. */
  readonly clock?: Clock;
}

/** A call with a complete request and no answer yet. */
interface PendingCall {
  readonly wrapper: WrapperCall;
  readonly request: Buffer;
  readonly sinceMs: number;
  /** The emulator that has, or had, the request. */
  link?: EmulatorLink;
}

/**
 * Dispatches calls to emulators: one call at a time to each, and never retries a request that an emulator may have read.
 * Attached emulators get the calls; while none is attached, the peer's service does. Without either, calls wait until
 * their wrappers time out.
 */
export class StorageBroker extends EventEmitter<StorageBrokerEvents> {
  readonly emulators: EmulatorPool;
  readonly #vm: string | undefined;
  readonly #maxCalls: number;
  readonly #clock: Clock;
  readonly #budget: Budget;
  /** By path. */
  readonly #servers = new Map<string, Server>();
  readonly #pausedPaths = new Set<string>();
  readonly #wrappers = new Map<WrapperCall, Duplex>();
  readonly #calls = new Map<WrapperCall, PendingCall>();
  #waiting = new Set<PendingCall>();
  #isClosed = false;

  constructor(options: StorageBrokerOptions = {}) {
    super();
    this.#vm = options.vm;
    this.#maxCalls = options.maxCalls ?? 1024;
    this.#clock = options.clock ?? systemClock;
    this.#budget = new Budget(options.maxHeldBytes ?? 256 * 1024 * 1024);
    this.emulators = new EmulatorPool({
      peer: options.peer ?? NO_PEER_SERVICE,
      parallel: options.parallel ?? 1,
      maxAttached: options.maxAttached ?? 64,
      clock: this.#clock,
      onChange: (change) => this.emit('emulator', change),
      onFree: () => this.#dispatch(),
    });
  }

  get waitingCalls(): number {
    return this.#waiting.size;
  }

  /** The number of calls that emulators are answering. */
  get runningCalls(): number {
    return this.#calls.size - this.#waiting.size;
  }

  get connectedWrappers(): number {
    return this.#wrappers.size;
  }

  /** Listening descriptors by path; null if this version of Node does not expose them. */
  get descriptors(): ReadonlyMap<string, number | null> {
    return new Map([...this.#servers].map(([path, server]) => [path, descriptorOf(server)]));
  }

  /**
   * Serves wrappers on a unix socket of mode 0600; replaces a stale socket file and creates a missing folder. Rejects with
   * `address-in-use`, `address-denied` or `address-unavailable`. `fd`: a descriptor that already listens there. Default: none.
   */
  async listen(path: string, fd?: number): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (socket) => this.#accepted(socket));
    await listenAt(server, { path }, fd);
    // A failed accept is not fatal.
    server.on('error', () => undefined);
    if (this.#isClosed) server.close();
    else this.#servers.set(path, server);
  }

  /** Stops listening until `resume`. Calls in progress continue. */
  pause(): void {
    for (const [path, server] of this.#servers) {
      server.close();
      this.#pausedPaths.add(path);
    }
    this.#servers.clear();
  }

  /** Listens again where it did before `pause`, unless closed. Rejects as `listen` does, and can then be retried. */
  async resume(): Promise<void> {
    for (const path of this.#pausedPaths) {
      if (this.#isClosed) return;
      await this.listen(path);
      this.#pausedPaths.delete(path);
    }
  }

  /** Serves one wrapper on a stream, and takes the stream over. */
  serve(stream: Duplex): void {
    if (this.#isClosed || this.#wrappers.size >= this.#maxCalls) {
      const error = this.#isClosed
        ? ending()
        : unavailable(`too many storage calls in progress (max ${this.#maxCalls})`);
      stream.on('error', () => undefined).end(encodeFailure(error), () => stream.destroy());
      return;
    }
    const wrapper = new WrapperCall(stream, this.#clock, this.#budget, {
      onRequest: (call) => this.#accept(call),
      onBadRequest: (error) => this.emit('call', { argv: [], durationMs: 0, error }),
      onClosed: (call) => this.#forget(call),
    });
    this.#wrappers.set(wrapper, stream);
  }

  /** Stops listening, fails all calls with `storage-unavailable`, and resets the streams of all emulators. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const closed = [...this.#servers.values()].map((server) => new Promise((resolve) => server.close(resolve)));
    for (const call of [...this.#waiting]) this.#fail(call, ending());
    this.emulators.close();
    // By now the system has taken short answers; a wrapper that does not read its answer must not delay the shutdown.
    await new Promise((resolve) => setImmediate(resolve));
    for (const stream of this.#wrappers.values()) stream.destroy();
    await Promise.all(closed);
  }

  #accepted(socket: Socket): void {
    const shortage = descriptorShortage(socket);
    if (shortage === null) {
      this.serve(socket);
      return;
    }
    // Answering would hold the descriptor for a while, and more wrappers may be connecting.
    socket.destroy();
    this.emit('call', { argv: [], durationMs: 0, error: unavailable(shortage) });
  }

  #accept(wrapper: WrapperCall): void {
    const { argv } = wrapper;
    const request = encodeRequest(this.#vm === undefined ? { argv } : { argv, vm: this.#vm });
    const call: PendingCall = { wrapper, request, sinceMs: this.#clock.now() };
    this.#calls.set(wrapper, call);
    this.#waiting.add(call);
    this.#dispatch();
  }

  /** Passes waiting calls to idle emulators. */
  #dispatch(): void {
    for (;;) {
      const [call] = this.#waiting;
      if (call === undefined) return;
      try {
        const link = this.emulators.acquire();
        if (link === undefined) return;
        this.#send(call, link);
      } catch (error) {
        this.#fail(call, toVproxyError(error));
      }
    }
  }

  #send(call: PendingCall, link: EmulatorLink): void {
    this.#waiting.delete(call);
    call.link = link;
    link.send({
      message: call.request,
      budget: call.wrapper.budget,
      settle: (outcome) => {
        this.emulators.release(link, outcome);
        this.#settle(call, outcome);
        this.#dispatch();
      },
    });
  }

  #settle(call: PendingCall, outcome: LinkOutcome): void {
    if (outcome.kind === 'reply') {
      this.#end(call, { status: outcome.status, replyBytes: outcome.message.length });
      call.wrapper.answer(Buffer.concat([outcome.message, LINE_FEED]));
    } else if (outcome.isUnread && !this.#isClosed) {
      delete call.link;
      // Requeue first: it is older than all that wait.
      this.#waiting = new Set([call, ...this.#waiting]);
    } else {
      this.#fail(call, outcome.error);
    }
  }

  #fail(call: PendingCall, error: VproxyError): void {
    this.#end(call, { error });
    call.wrapper.fail(error);
  }

  /** The wrapper has disconnected. If its call was in progress, that stream's reply must not reach another call. */
  #forget(wrapper: WrapperCall): void {
    this.#wrappers.delete(wrapper);
    const call = this.#calls.get(wrapper);
    if (call === undefined) return;
    this.#end(call, { error: new VproxyError('cancelled', 'the wrapper disconnected before its answer') });
    call.link?.abandon();
  }

  #end(call: PendingCall, result: Pick<StorageCallRecord, 'status' | 'replyBytes' | 'error'>): void {
    this.#waiting.delete(call);
    this.#calls.delete(call.wrapper);
    const durationMs = this.#clock.now() - call.sinceMs;
    this.emit('call', { argv: call.wrapper.argv, durationMs, emulator: call.link?.name, ...result });
  }
}

const LINE_FEED = Buffer.from('\n');

const unavailable = (message: string): VproxyError => new VproxyError('storage-unavailable', message);

const ending = (): VproxyError => unavailable('vproxy is shutting down');

/** A call that has ended. Its strings come from a wrapper or an emulator: escape them when shown. */
export interface StorageCallRecord {
  /** The command line; empty without a valid request. */
  readonly argv: readonly string[];
  /** From the complete request to the answer, or until the wrapper disconnected. */
  readonly durationMs: number;
  /** The emulator that had the request: `attached N` or `peer`; undefined if none had it. */
  readonly emulator?: string | undefined;
  /** The exit status of the reply. */
  readonly status?: number | undefined;
  /** The size of the emulator's reply, in bytes. */
  readonly replyBytes?: number | undefined;
  /** Why there is no reply; `cancelled` when the wrapper disconnected first. */
  readonly error?: VproxyError | undefined;
}

interface StorageBrokerEvents {
  call: [StorageCallRecord];
  emulator: [StorageEmulatorChange];
}

/** The result of listening: the path, or why no default was available. */
type WrapperListening = { readonly path: string } | { readonly warning: VproxyError };

/**
 * Makes a broker listen. An explicit path must be available (rejects with the codes of `StorageBroker.listen`). Otherwise
 * tries the defaults (`storageSocketPaths`) in order, and only warns if none is available. Stops at a default that another
 * process listens on: wrappers would find that one first.
 */
export async function listenForWrappers(
  broker: StorageBroker,
  explicitPath: string | undefined,
  defaultPaths: readonly string[],
): Promise<WrapperListening> {
  if (explicitPath !== undefined) {
    await broker.listen(explicitPath);
    return { path: explicitPath };
  }
  let warning = new VproxyError('address-unavailable', 'no default path for the storage socket');
  for (const path of defaultPaths) {
    try {
      await broker.listen(path);
      return { path };
    } catch (error) {
      if (!(error instanceof VproxyError)) throw error;
      warning = error;
      if (error.code === 'address-in-use') break;
    }
  }
  return { warning };
}

/**
 * The storage broker: takes the calls of the wrappers in the guest, and passes each to one emulator, which answers it.
 */

import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { EventEmitter } from 'eventemitter3';
import { toVproxyError, VproxyError } from '../errors.js';
import { descriptorShortage } from '../system/descriptors.js';
import { descriptorOf } from '../system/sockets/node-sockets.js';
import { Budget } from '../util/bounds.js';
import { type Clock, systemClock } from '../util/clock.js';
import { type EmulatorLink, type LinkOutcome } from './emulator-link.js';
import { EmulatorPool, NO_PEER_SERVICE, type StorageEmulatorChange, type StoragePeerService } from './emulator-pool.js';
import { listenAt } from './listen.js';
import { encodeFailure, encodeRequest } from './wire.js';
import { WrapperCall } from './wrapper-call.js';

/** How a broker works. */
export interface StorageBrokerOptions {
  /** The peer's service `storage`. Default: none, so that only attached emulators answer. */
  readonly peer?: StoragePeerService;
  /** The number of calls that the peer's service may have at once. Default 1. */
  readonly parallel?: number;
  /** The name of this virtual machine, put into each request as `vm`. Default: none. */
  readonly vm?: string;
  /** The number of wrappers that may wait or be served at once. Default 1024. */
  readonly maxCalls?: number;
  /** The number of emulators that may be attached. Default 64. */
  readonly maxAttached?: number;
  /** The number of bytes of requests and replies that may be held for all calls together. Default 256 MiB. */
  readonly maxHeldBytes?: number;
  /** Default: the system's. */
  readonly clock?: Clock;
}

/** A call whose request is complete and that has no answer yet. */
interface PendingCall {
  readonly wrapper: WrapperCall;
  readonly request: Buffer;
  readonly sinceMs: number;
  /** The emulator that has, or had, the request. */
  link?: EmulatorLink;
}

/**
 * Brings calls and emulators together: one call at a time to each emulator, and never a request again that one may have
 * read. Attached emulators get the calls; while none is attached, the peer's service does; without either, calls
 * wait until their wrappers give up.
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

  /** The number of calls that wait for an emulator. */
  get waitingCalls(): number {
    return this.#waiting.size;
  }

  /** The number of calls that an emulator has. */
  get runningCalls(): number {
    return this.#calls.size - this.#waiting.size;
  }

  /** The number of wrappers that are connected. */
  get connectedWrappers(): number {
    return this.#wrappers.size;
  }

  /** The descriptors that it listens with, by path; null where this version of Node does not tell. */
  get descriptors(): ReadonlyMap<string, number | null> {
    return new Map([...this.#servers].map(([path, server]) => [path, descriptorOf(server)]));
  }

  /**
   * Serves wrappers at a unix socket of mode 0600; the file of a dead socket is replaced, a missing folder made.
   * Rejects with `address-in-use`, `address-denied` or `address-unavailable`. `fd` is a descriptor that is listened on there
   * already. Default: there is none.
   */
  async listen(path: string, fd?: number): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (socket) => this.#accepted(socket));
    await listenAt(server, { path }, fd);
    // A failed accept ends nothing.
    server.on('error', () => undefined);
    if (this.#isClosed) server.close();
    else this.#servers.set(path, server);
  }

  /** Stops listening, until `resume`. Calls that are under way go on. */
  pause(): void {
    for (const [path, server] of this.#servers) {
      server.close();
      this.#pausedPaths.add(path);
    }
    this.#servers.clear();
  }

  /** Listens again where it did before `pause`, unless it is closed. Rejects as `listen` does, and can be called again then. */
  async resume(): Promise<void> {
    for (const path of this.#pausedPaths) {
      if (this.#isClosed) return;
      await this.listen(path);
      this.#pausedPaths.delete(path);
    }
  }

  /** Serves one wrapper on a stream, which the broker owns from here on. */
  serve(stream: Duplex): void {
    if (this.#isClosed || this.#wrappers.size >= this.#maxCalls) {
      const error = this.#isClosed ? ending() : unavailable(`${this.#maxCalls} storage calls are under way already`);
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
    // The system has short answers now; a wrapper that does not fetch its answer must not hold up the end.
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
    // An answer would hold its descriptor for a while, and more wrappers may be connecting.
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

  /** Gives waiting calls to free emulators. */
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
      // It came before all that wait now.
      this.#waiting = new Set([call, ...this.#waiting]);
    } else {
      this.#fail(call, outcome.error);
    }
  }

  #fail(call: PendingCall, error: VproxyError): void {
    this.#end(call, { error });
    call.wrapper.fail(error);
  }

  /** The wrapper has disconnected. If its call was under way, that stream's reply must not reach another. */
  #forget(wrapper: WrapperCall): void {
    this.#wrappers.delete(wrapper);
    const call = this.#calls.get(wrapper);
    if (call === undefined) return;
    this.#end(call, { error: new VproxyError('cancelled', 'the wrapper ended before its answer') });
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

const ending = (): VproxyError => unavailable('vproxy is ending');

/** A call that has ended. What it names came from a wrapper or an emulator: show it escaped. */
export interface StorageCallRecord {
  /** The command line; empty where no valid request came. */
  readonly argv: readonly string[];
  /** From the complete request to the answer, or to the end of the wrapper. */
  readonly durationMs: number;
  /** Which emulator had the request: `attached N`, or `peer`; undefined where no emulator had it. */
  readonly emulator?: string | undefined;
  /** The exit status of the reply. */
  readonly status?: number | undefined;
  /** The reply as the emulator sent it, in bytes. */
  readonly replyBytes?: number | undefined;
  /** Why there is no reply; `cancelled` when the wrapper disconnected first. */
  readonly error?: VproxyError | undefined;
}

/** The events of a `StorageBroker`. */
interface StorageBrokerEvents {
  call: [StorageCallRecord];
  emulator: [StorageEmulatorChange];
}

/** The result of listening: the path, or why no default was available. */
type WrapperListening = { readonly path: string } | { readonly warning: VproxyError };

/**
 * Makes a broker listen. An explicit path that is not available is an error (rejects with the codes of
 * `StorageBroker.listen`); each of the defaults (`storageSocketPaths`) is tried until one is available, and without any
 * it is only a warning. A default that another process listens at is not passed over: its wrappers would not find this one.
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
  let warning = new VproxyError('address-unavailable', 'there is no default path for the storage socket');
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

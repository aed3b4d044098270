/** The emulators that a broker can use: attached ones, which dialled in, or the peer's own service. */
import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../errors.js';
import { Backoff, type CancelTimer, type Clock } from '../util/clock.js';
import { EmulatorLink, type LinkOutcome } from './emulator-link.js';

const PEER_NAME = 'peer';

interface EmulatorPoolOptions {
  readonly peer: StoragePeerService;
  /** Limit on concurrent requests to the peer's service. */
  readonly parallel: number;
  readonly maxAttached: number;
  readonly clock: Clock;
  /** Called when an emulator was attached or detached, or has refused. */
  readonly onChange: (change: StorageEmulatorChange) => void;
  /** Called when an emulator may have become idle. */
  readonly onFree: () => void;
}

/** Lends emulators, for one request at a time. While one is attached, the peer's service is not used. */
export class EmulatorPool {
  readonly #options: EmulatorPoolOptions;
  /** The least recently used one first. */
  readonly #attached = new Set<EmulatorLink>();
  readonly #peerStreams = new Map<EmulatorLink, Duplex>();
  readonly #lingering: LingeringStreams;
  readonly #backoff = new Backoff({ firstMs: 100, maxMs: 5000 });
  #cancelRetry: CancelTimer | undefined;
  #refusedCode: string | undefined;
  #attachments = 0;
  #isClosed = false;

  constructor(options: EmulatorPoolOptions) {
    this.#options = options;
    this.#lingering = new LingeringStreams(options.clock);
  }

  get attachedCount(): number {
    return this.#attached.size;
  }

  /** Adds an emulator that dialled in, and takes its stream over. */
  attach(stream: Duplex): void {
    const { maxAttached, onChange, onFree } = this.#options;
    if (this.#isClosed || this.#attached.size >= maxAttached) {
      const reason = this.#isClosed
        ? ending()
        : new VproxyError('too-many-streams', `too many emulators (max ${maxAttached})`);
      stream.on('error', () => undefined).destroy(reason);
      return;
    }
    this.#attachments += 1;
    const link = new EmulatorLink(`attached ${this.#attachments}`, stream, (reason) => {
      this.#attached.delete(link);
      onChange({ name: link.name, state: 'detached', reason });
      // Without attached emulators, the peer's service may get the calls.
      onFree();
    });
    this.#attached.add(link);
    onChange({ name: link.name, state: 'attached' });
    onFree();
  }

  /** Checks again whether the peer's service is offered; call it after each change. */
  wake(): void {
    this.#backoff.reset();
    this.#endRetry();
    this.#options.onFree();
  }

  /** An idle emulator, or undefined. Throws a VproxyError if the peer's service cannot be opened and retrying does not help. */
  acquire(): EmulatorLink | undefined {
    if (this.#isClosed) return undefined;
    if (this.#attached.size === 0) return this.#openPeer();
    for (const link of this.#attached) if (!link.isBusy) return link;
    return undefined;
  }

  /** Returns an emulator; call it before acting on the outcome. */
  release(link: EmulatorLink, outcome: LinkOutcome): void {
    if (this.#attached.delete(link)) {
      this.#attached.add(link);
      return;
    }
    const stream = this.#peerStreams.get(link);
    if (stream === undefined) return;
    this.#peerStreams.delete(link);
    this.#lingering.add(stream);
    if (outcome.kind === 'failure' && outcome.isUnread) this.#refused(outcome.error);
    else this.#accepted();
  }

  /** Resets all streams; requests in flight fail. */
  close(): void {
    this.#isClosed = true;
    this.#endRetry();
    for (const link of [...this.#attached, ...this.#peerStreams.keys()]) link.lose(ending());
    this.#lingering.destroy();
  }

  #openPeer(): EmulatorLink | undefined {
    const { peer, parallel, onFree } = this.#options;
    if (this.#cancelRetry || this.#peerStreams.size >= parallel || !peer.isOffered()) return undefined;
    let stream: Duplex;
    try {
      stream = peer.open();
    } catch (cause) {
      // The request was not read, so the call fails only if retrying does not help.
      const error = toVproxyError(cause);
      if (!error.row.retry) throw error;
      this.#refused(error);
      return undefined;
    }
    const link = new EmulatorLink(PEER_NAME, stream, () => {
      // A cancelled request is not released: free its slot here.
      if (!link.isBusy && this.#peerStreams.delete(link)) onFree();
    });
    this.#peerStreams.set(link, stream);
    return link;
  }

  /** The request was not read, so its call waits for the next retry or `wake`. */
  #refused(reason: VproxyError): void {
    this.#endRetry();
    this.#cancelRetry = this.#options.clock.schedule(this.#backoff.next(), () => {
      this.#cancelRetry = undefined;
      this.#options.onFree();
    });
    if (this.#refusedCode === reason.code) return;
    this.#refusedCode = reason.code;
    this.#options.onChange({ name: PEER_NAME, state: 'refused', reason });
  }

  #accepted(): void {
    this.#backoff.reset();
    this.#refusedCode = undefined;
  }

  #endRetry(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
  }
}

const ending = (): VproxyError => new VproxyError('shutdown', 'vproxy is shutting down');

/** The peer's service `storage`, as the broker uses it. Call the pool's `wake` after any change of `isOffered`. */
export interface StoragePeerService {
  /** Whether a session exists whose peer offers the service `storage`. */
  isOffered(): boolean;
  /** Opens a stream to it. On failure throws, or destroys the stream with a VproxyError. */
  open(): Duplex;
}

/** For a broker without a session. */
export const NO_PEER_SERVICE: StoragePeerService = {
  isOffered: () => false,
  open() {
    throw new Error('no service to open');
  },
};

/** A change in an emulator's availability. */
export interface StorageEmulatorChange {
  /** `attached N` or `peer`. */
  readonly name: string;
  /** `refused`: it could not be opened, and calls wait for it. */
  readonly state: 'attached' | 'detached' | 'refused';
  /** The reason, unless it ended in order. */
  readonly reason?: VproxyError | undefined;
}

const LINGER_MS = 5000;

const MAX_STREAMS = 16;

/** Half-closed streams to the peer: at most `MAX_STREAMS`, each for at most `LINGER_MS`. */
class LingeringStreams {
  readonly #clock: Clock;
  readonly #streams = new Set<Duplex>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends a stream whose events are already handled; resets it if the peer does not end it, too. */
  add(stream: Duplex): void {
    if (stream.destroyed) return;
    if (this.#streams.size >= MAX_STREAMS) [...this.#streams].at(0)?.destroy();
    const cancel = this.#clock.schedule(LINGER_MS, () => stream.destroy());
    this.#streams.add(stream);
    stream.once('close', () => {
      cancel();
      this.#streams.delete(stream);
    });
    stream.end();
  }

  /** Resets them all. */
  destroy(): void {
    for (const stream of this.#streams) stream.destroy();
  }
}

/** The emulators that a broker can use: those that dialled and are attached, else the peer's own service. */
import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../errors.js';
import { Backoff, type CancelTimer, type Clock } from '../util/clock.js';
import { EmulatorLink, type LinkOutcome } from './emulator-link.js';

const PEER_NAME = 'peer';

interface EmulatorPoolOptions {
  readonly peer: StoragePeerService;
  /** The number of requests that the peer's service may have at once. */
  readonly parallel: number;
  readonly maxAttached: number;
  readonly clock: Clock;
  /** An emulator was attached or detached, or has refused. */
  readonly onChange: (change: StorageEmulatorChange) => void;
  /** An emulator may be free now that was not. */
  readonly onFree: () => void;
}

/** Emulators to borrow, one request at a time. While one is attached, the peer's service is not used. */
export class EmulatorPool {
  readonly #options: EmulatorPoolOptions;
  /** The one that has been idle longest comes first. */
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

  /** The number of attached emulators. */
  get attachedCount(): number {
    return this.#attached.size;
  }

  /** Holds an emulator that dialled, on a stream that is the pool's from here on, and lets it answer calls. */
  attach(stream: Duplex): void {
    const { maxAttached, onChange, onFree } = this.#options;
    if (this.#isClosed || this.#attached.size >= maxAttached) {
      const reason = this.#isClosed ? ending() : new VproxyError('too-many-streams', `${maxAttached} are attached`);
      stream.on('error', () => undefined).destroy(reason);
      return;
    }
    this.#attachments += 1;
    const link = new EmulatorLink(`attached ${this.#attachments}`, stream, (reason) => {
      this.#attached.delete(link);
      onChange({ name: link.name, state: 'detached', reason });
      // Without any attached emulator, the peer's service may have the calls.
      onFree();
    });
    this.#attached.add(link);
    onChange({ name: link.name, state: 'attached' });
    onFree();
  }

  /** Looks again whether the peer's service is offered: call it after each change. */
  wake(): void {
    this.#backoff.reset();
    this.#endRetry();
    this.#options.onFree();
  }

  /**
   * A free emulator, or undefined. Throws a VproxyError when the peer's service cannot be opened, and waiting does not
   * help.
   */
  acquire(): EmulatorLink | undefined {
    if (this.#isClosed) return undefined;
    if (this.#attached.size === 0) return this.#openPeer();
    for (const link of this.#attached) if (!link.isBusy) return link;
    return undefined;
  }

  /** Ends a loan; call it before acting on the outcome. */
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

  /** Resets all streams; what is under way fails. */
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
      // A stream that was never opened was never read: the call fails only if waiting does not help.
      const error = toVproxyError(cause);
      if (!error.row.retry) throw error;
      this.#refused(error);
      return undefined;
    }
    const link = new EmulatorLink(PEER_NAME, stream, () => {
      // A request that was given up is not released: its slot is free from here.
      if (!link.isBusy && this.#peerStreams.delete(link)) onFree();
    });
    this.#peerStreams.set(link, stream);
    return link;
  }

  /** The request was not read, so its call waits: until the next try, or until `wake`. */
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

const ending = (): VproxyError => new VproxyError('shutdown', 'vproxy is ending');

/** What the broker needs of the session with the peer. After any change of `isOffered`, call the pool's `wake`. */
export interface StoragePeerService {
  /** Whether there is a session whose peer offers the service `storage`. */
  isOffered(): boolean;
  /** Opens a stream to it. An opening that fails throws, or destroys the stream with a VproxyError. */
  open(): Duplex;
}

/** For a broker without a session. */
export const NO_PEER_SERVICE: StoragePeerService = {
  isOffered: () => false,
  open() {
    throw new Error('there is no service to open');
  },
};

/** A change in an emulator's availability. */
export interface StorageEmulatorChange {
  /** `attached N`, or `peer`. */
  readonly name: string;
  /** `refused`: its opening failed, and calls wait for it. */
  readonly state: 'attached' | 'detached' | 'refused';
  /** Why, where it is not an ordinary end. */
  readonly reason?: VproxyError | undefined;
}

const LINGER_MS = 5000;

const MAX_STREAMS = 16;

/** Holds the streams; a few at most, each for a few seconds at most. */
class LingeringStreams {
  readonly #clock: Clock;
  readonly #streams = new Set<Duplex>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends a stream, whose events are handled already, and resets it when its other end does not end it too. */
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

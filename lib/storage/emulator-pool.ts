/** The emulators that a broker can use: those that dialled and are attached, else the peer's own service. */
import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../errors.js';
import { Backoff, type CancelTimer, type Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { JsonScanner } from '../util/json-scanner.js';
import { LingeringStreams, type StorageEmulatorChange } from './broker.js';
import { decodeReply, MAX_REPLY_BYTES } from './wire.js';

const PEER_NAME = 'peer';

/** What a pool needs. */
interface EmulatorPoolOptions {
  readonly peer: StoragePeerService;
  /** How many requests the peer's service may have at once. */
  readonly parallel: number;
  readonly maxAttached: number;
  readonly clock: Clock;
  /** An emulator came, went, or refused. */
  readonly onChange: (change: StorageEmulatorChange) => void;
  /** An emulator may be free now that was not. */
  readonly onFree: () => void;
}

/** Emulators to borrow, one request at a time. While one is attached, the peer's service is not used. */
export class EmulatorPool {
  readonly #options: EmulatorPoolOptions;
  /** The one that rested longest stands in front. */
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

  /** How many emulators are attached. */
  get attachedEmulators(): number {
    return this.#attached.size;
  }

  /** Holds an emulator that dialled. */
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
      // With the last one gone the peer's service may have the calls.
      onFree();
    });
    this.#attached.add(link);
    onChange({ name: link.name, state: 'attached' });
    onFree();
  }

  /** Whether the peer's service is offered has changed: look again at once. */
  wake(): void {
    this.#backoff.reset();
    this.#endRetry();
    this.#options.onFree();
  }

  /** A free emulator, or undefined. Throws a VproxyError when the peer's service cannot be opened, and waiting is vain. */
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
    for (const link of [...this.#attached, ...this.#peerStreams.keys()]) link.destroy(ending());
    this.#lingering.destroy();
  }

  #openPeer(): EmulatorLink | undefined {
    const { peer, parallel, onFree } = this.#options;
    if (this.#cancelRetry || this.#peerStreams.size >= parallel || !peer.isOffered()) return undefined;
    let stream: Duplex;
    try {
      stream = peer.open();
    } catch (cause) {
      // What was never opened was never read: only what no patience helps fails the call.
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

  /** Nobody read the request, so its call waits: until the next try, or until `wake`. */
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

function ending(): VproxyError {
  return new VproxyError('shutdown', 'vproxy is ending');
}

// One stream to an emulator: a request in one write, then its one reply, then perhaps the next request.

/** What became of a request. */
export type LinkOutcome =
  /** The reply as it came, and the exit status in it. */
  | { readonly kind: 'reply'; readonly message: Buffer; readonly status: number }
  /** The request failed; `isUnread` when it is certain that no emulator has read any of it. */
  | { readonly kind: 'failure'; readonly error: VproxyError; readonly isUnread: boolean };

/** A request on its way. */
interface LinkRequest {
  readonly message: Buffer;
  /** Accounts for bytes of the reply; false when too many are held. */
  charge(bytes: number): boolean;
  /** Called once, unless the request is abandoned. */
  settle(outcome: LinkOutcome): void;
}

/** With these codes an opening was refused before any emulator had the stream. */
const REFUSED_UNREAD: readonly string[] = ['unknown-service', 'connect-refused', 'too-many-streams'];

// Emulators that read with one recv(1024) take no longer request.
const SINGLE_READ_BYTES = 1024;

/** A stream to an emulator. */
export class EmulatorLink {
  /** What the emulator is called in events and messages. */
  readonly name: string;
  readonly #stream: Duplex;
  readonly #onLost: (reason: VproxyError | undefined) => void;
  readonly #scanner = new JsonScanner(MAX_REPLY_BYTES, 'storage-bad-reply', 'the reply');
  #request: LinkRequest | undefined;
  #isLost = false;
  #isFlushed = false;
  #hasReceived = false;

  /**
   * Takes the stream over. `onLost` is called once when it can be used no more; without a reason it just ended. The link
   * is still busy then if a request is about to fail with it.
   */
  constructor(name: string, stream: Duplex, onLost: (reason: VproxyError | undefined) => void) {
    this.name = name;
    this.#stream = stream;
    this.#onLost = onLost;
    stream.on('data', (chunk: Buffer) => this.#read(chunk));
    stream.on('end', () => this.#handleEnd());
    stream.on('error', (error) => this.#lose(error));
    stream.on('close', () => this.#lose(closed()));
    // The events of a stream that was refused before it came here may have passed.
    if (stream.destroyed) process.nextTick(() => this.#lose(stream.errored ?? closed()));
  }

  /** Whether a request is under way. */
  get isBusy(): boolean {
    return this.#request !== undefined;
  }

  /** Sends a request; only when the link is not busy. */
  send(request: LinkRequest): void {
    this.#request = request;
    this.#isFlushed = false;
    this.#hasReceived = false;
    this.#stream.write(request.message, (error) => {
      if (!error) this.#isFlushed = true;
    });
  }

  /** Gives up the request under way; the stream is reset, so that its reply is never taken for another's. */
  abandon(): void {
    this.#request = undefined;
    this.#lose(new VproxyError('cancelled', 'a storage call was given up after its request was sent'));
  }

  /** Resets the stream. A request under way fails with this reason. */
  destroy(reason: VproxyError): void {
    this.#lose(reason);
  }

  #read(chunk: Buffer): void {
    if (this.#isLost) return;
    const request = this.#request;
    this.#hasReceived = true;
    try {
      if (request && !request.charge(chunk.length)) {
        throw new VproxyError('storage-unavailable', 'too many bytes of storage calls are held');
      }
      this.#scanner.push(chunk);
      const message = this.#scanner.next();
      if (request && message === undefined) return;
      const reply = message && request && decodeReply(message);
      // What nobody asked for would be taken for the next reply.
      const isUnasked = (message && !request) || this.#scanner.next() !== undefined || !this.#scanner.isEmpty;
      if (message && reply) {
        this.#request = undefined;
        if (isUnasked) this.#lose(unasked());
        request.settle({ kind: 'reply', message, status: reply.status });
      } else if (isUnasked) {
        this.#lose(unasked());
      }
    } catch (error) {
      this.#lose(error);
    }
  }

  #handleEnd(): void {
    if (this.#isLost) return;
    if (this.#request === undefined) {
      this.#isLost = true;
      this.#stream.end();
      this.#onLost(undefined);
      return;
    }
    try {
      const rest = this.#scanner.end();
      if (rest) decodeReply(rest);
      this.#lose(new VproxyError('storage-unavailable', 'it hung up without a reply'));
    } catch (error) {
      this.#lose(error);
    }
  }

  #lose(cause: unknown): void {
    if (this.#isLost) return;
    this.#isLost = true;
    const reason = cause instanceof VproxyError ? cause : wrap(cause);
    this.#stream.destroy(reason.row.wire ? reason : new VproxyError('cancelled', reason.message, { cause: reason }));
    this.#onLost(reason);
    const request = this.#request;
    this.#request = undefined;
    request?.settle({ kind: 'failure', error: this.#describe(reason, request), isUnread: this.#isUnread(reason) });
  }

  #isUnread({ code }: VproxyError): boolean {
    if (this.#hasReceived) return false;
    // This code also ends streams that were open: then the request may have arrived.
    return REFUSED_UNREAD.includes(code) || (code === 'no-session' && !this.#isFlushed);
  }

  #describe(reason: VproxyError, { message }: LinkRequest): VproxyError {
    const code = reason.code === 'storage-bad-reply' ? reason.code : 'storage-unavailable';
    const what = reason.code === code ? reason.message : `${reason.code}: ${escapeText(reason.message)}`;
    const bytes = message.length - 1;
    const isLong = code === 'storage-unavailable' && bytes > SINGLE_READ_BYTES && !this.#hasReceived;
    const hint = isLong
      ? `; the request has ${bytes} bytes, and an emulator that reads it with one recv(${SINGLE_READ_BYTES}) cannot take it`
      : '';
    return new VproxyError(code, `the storage emulator (${this.name}) failed: ${what}${hint}`, { cause: reason });
  }
}

function wrap(cause: unknown): VproxyError {
  const message = cause instanceof Error ? cause.message : String(cause);
  return new VproxyError('storage-unavailable', escapeText(message), { cause });
}

function closed(): VproxyError {
  return new VproxyError('storage-unavailable', 'its stream was closed');
}

function unasked(): VproxyError {
  return new VproxyError('storage-bad-reply', 'it sent something that no storage call had asked for');
}

// The peer's own `storage` service, as the broker sees it.

/** What the broker needs of the session with the peer. After any change of `isOffered`, call the broker's `wake`. */
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

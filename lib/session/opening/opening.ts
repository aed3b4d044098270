/** The handshake on a channel: flush, magic and HELLO, until both sides have seen each other (R-OPEN-1 to R-OPEN-11). */
import type { ByteSink } from '../../codec/frame-writer.js';
import { encodeHello, type Hello, HelloScanner, PSK_METHOD } from '../../codec/hello.js';
import { HEADER_BYTES, PROTOCOL_VERSION } from '../../codec/limits.js';
import { Backoff, type CancelTimer, type Clock } from '../../util/clock.js';
import type { SessionSettings } from '../settings.js';
import { type Agreement, agree, BUSY_FEATURE, DATAGRAM_FEATURE, resumeFeatures } from './agreement.js';

/** The interval at which HELLO is repeated. */
const REPEAT_MS = 1000;

/** After this time without a HELLO to answer the channel counts as quiet. */
const QUIET_MS = 5000;

/** An attempt that was answered but not established within this time is abandoned; doubles up to the maximum. */
const ATTEMPT_MS = 5000;
const MAX_ATTEMPT_MS = 40_000;

/** The zeros of a flush, shared by all handshakes; never written to. */
let flush: Buffer = Buffer.alloc(0);

function zeros(byteCount: number): Buffer {
  if (flush.length < byteCount) flush = Buffer.alloc(byteCount);
  return flush.subarray(0, byteCount);
}

interface OpeningOptions {
  readonly sink: ByteSink;
  readonly clock: Clock;
  readonly settings: SessionSettings;
  /** An earlier HELLO: the one that ended the last session, or the newest during a pause. */
  readonly firstHello: Hello | null;
  /** For a handshake on a secure layer: the outer HELLOs' nonces, this side's first (R-AUTH-3). Default null. */
  readonly outerNonces?: readonly [self: string, peer: string] | null;
  /** Our own HELLO came back. */
  readonly onEcho: () => void;
  /**
   * No HELLO of the peer was answered for {@link QUIET_MS}; again if a stranger shows itself later. Not called after an answer,
   * which may have established the peer.
   */
  readonly onQuiet: () => void;
}

/** The result of `receive` when the session is established. */
interface Established {
  readonly agreement: Agreement;
  /** The bytes after the HELLO, as a view of what was received. */
  readonly rest: Buffer;
}

/** The progress of an attempt. */
type OpeningState =
  /** No HELLO of the peer has come. */
  | 'seeking'
  /** One has come, and the answer waits for the channel to drain. */
  | 'answering'
  /** It was answered, and the peer's next HELLO should carry the nonce of this side as its `ack`. */
  | 'answered'
  /** Established, or abandoned. */
  | 'over';

export class Opening {
  readonly #options: OpeningOptions;
  readonly #scanner = new HelloScanner();
  readonly #attemptTimes: Backoff;
  /** How long this attempt waits after an answer. */
  #attemptMs = 0;
  #self: Hello;
  #peerNonce: string | null = null;
  #state: OpeningState = 'seeking';
  #cancelRepeat: CancelTimer | null = null;
  #cancelAttempt: CancelTimer | null = null;
  #cancelQuiet: CancelTimer | null = null;
  /** Whether `onQuiet` was called, and whether a stranger was known then. */
  #quiet: 'no' | 'told' | 'told of a stranger' = 'no';

  constructor(options: OpeningOptions) {
    this.#options = options;
    const { randomBytes } = options.settings;
    this.#attemptTimes = new Backoff({
      firstMs: ATTEMPT_MS,
      maxMs: MAX_ATTEMPT_MS,
      random: () => randomBytes(4).readUInt32BE(0) / 2 ** 32,
    });
    this.#self = this.#freshHello();
  }

  /** Bytes skipped in search of a HELLO. */
  get skippedBytes(): number {
    return this.#scanner.skippedBytes;
  }

  /** What the other end seems to be, if it is no vproxy of this version; null if that cannot be told. */
  get stranger(): string | null {
    return this.#scanner.stranger.describe();
  }

  /** Starts sending. */
  start(): void {
    this.#seek();
    const { firstHello } = this.#options;
    if (firstHello !== null && !this.#isOwn(firstHello)) this.#noteHello(firstHello);
  }

  /** Takes bytes. Returns non-null when they establish the session; the handshake is over then. */
  receive(chunk: Buffer): Established | null {
    let bytes = chunk;
    for (;;) {
      const found = this.#scanner.scan(bytes);
      if (found === null) {
        if (this.#state === 'seeking' && this.#quiet === 'told' && this.stranger !== null) this.#tellQuiet();
        return null;
      }
      const { hello, payload, rest } = found;
      if (this.#isOwn(hello)) {
        this.#options.onEcho();
      } else {
        this.#noteHello(hello);
        if (hello.ack === this.#self.nonce) {
          const owesAnswer = this.#state === 'answering';
          this.stop();
          // This answer establishes the peer, so it must not be lost with this object.
          if (owesAnswer) this.#options.sink.write(encodeHello(this.#self));
          return { agreement: agree(this.#self, hello, payload), rest };
        }
      }
      bytes = rest;
    }
  }

  /** The channel has written everything it was given. */
  handleDrain(): void {
    if (this.#state === 'answering') this.#writeAnswer();
  }

  /** Abandons the handshake. */
  stop(): void {
    this.#state = 'over';
    this.#cancelRepeat?.();
    this.#cancelAttempt?.();
    this.#cancelQuiet?.();
  }

  get #isInner(): boolean {
    return (this.#options.outerNonces ?? null) !== null;
  }

  #isOwn({ nonce, instance }: Hello): boolean {
    return nonce === this.#self.nonce || instance === this.#self.instance;
  }

  /** Notes a HELLO of the peer: a new nonce replaces the known one and is answered at once. */
  #noteHello(hello: Hello): void {
    const { nonce } = hello;
    if (nonce === this.#peerNonce) return;
    this.#peerNonce = nonce;
    this.#self = { ...this.#self, ack: nonce, features: this.#featuresFor(hello) };
    this.#state = 'answering';
    // At most one answer waits unwritten: it is sent when the channel has room, with the newest nonce.
    if (this.#options.sink.unwrittenBytes === 0) this.#writeAnswer();
  }

  #writeAnswer(): void {
    this.#state = 'answered';
    this.#cancelQuiet?.();
    this.#options.sink.write(encodeHello(this.#self));
    this.#cancelAttempt?.();
    this.#cancelAttempt = this.#options.clock.schedule(this.#attemptMs, () => this.#beginAgain());
  }

  /** Without this, losing a HELLO after the other side was established would keep the two apart for ever. */
  #beginAgain(): void {
    this.#cancelAttempt = null;
    this.#peerNonce = null;
    this.#self = this.#freshHello();
    this.#seek();
  }

  #seek(): void {
    this.#state = 'seeking';
    this.#attemptMs = this.#attemptTimes.next();
    this.#cancelQuiet = this.#options.clock.schedule(QUIET_MS, () => this.#tellQuiet());
    this.#writeOpening();
  }

  #tellQuiet(): void {
    this.#quiet = this.stranger === null ? 'told' : 'told of a stranger';
    this.#options.onQuiet();
  }

  #writeOpening(): void {
    const { sink, settings } = this.#options;
    // The zeros complete any frame that a predecessor left half-written, so that the peer falls out of step now.
    if (!this.#isInner) sink.write(zeros(settings.limits.frame + HEADER_BYTES));
    sink.write(encodeHello(this.#self));
    this.#scheduleRepeat();
  }

  #scheduleRepeat(): void {
    this.#cancelRepeat?.();
    this.#cancelRepeat = this.#options.clock.schedule(REPEAT_MS, () => {
      if (this.#options.sink.unwrittenBytes === 0) this.#options.sink.write(encodeHello(this.#self));
      this.#scheduleRepeat();
    });
  }

  /** The features requested for the session. In the clear, before TLS, session ids are not revealed. */
  #sessionFeatures(keyIds: readonly string[]): string[] {
    const { resume, secure } = this.#options.settings;
    if (secure !== null && !this.#isInner) return [];
    return [DATAGRAM_FEATURE, ...(resume === null ? [] : resumeFeatures(resume.kept.named(keyIds)))];
  }

  /** The features of an answer: those of this attempt, and whether the channel has another peer (R-CHANNEL-3). */
  #featuresFor(peer: Hello): readonly string[] {
    const { isTaken, secure } = this.#options.settings;
    const own = this.#self.features.filter((one) => one !== BUSY_FEATURE);
    return (secure === null || this.#isInner) && isTaken(peer) ? [...own, BUSY_FEATURE] : own;
  }

  #freshHello(): Hello {
    const { settings, outerNonces } = this.#options;
    const keys = settings.keys().map(({ id }) => id);
    return {
      version: { min: PROTOCOL_VERSION, max: PROTOCOL_VERSION },
      nonce: settings.randomBytes(16).toString('hex'),
      ack: null,
      instance: settings.instance,
      agent: settings.agent,
      name: settings.name,
      limits: settings.limits,
      integrity: settings.integrity,
      auth: keys.length === 0 ? null : { method: PSK_METHOD, keys },
      tls: settings.secure !== null && !this.#isInner,
      features: [...(outerNonces ?? []).map((nonce) => `outer:${nonce}`), ...this.#sessionFeatures(keys)],
    };
  }
}

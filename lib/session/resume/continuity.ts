/**
 * The part of a session that outlives its links: the shared secret, what each side acknowledges to the other, and the sent bytes
 * kept until then (R-RESUME-1, R-RESUME-2, R-RESUME-5).
 */
import type { ByteSink } from '../../codec/frame-writer.js';
import { HEADER_BYTES } from '../../codec/limits.js';
import { TOTAL_BYTES } from '../../codec/payloads.js';
import { protocolError, VproxyError } from '../../errors.js';
import type { FairBudget } from '../../util/bounds.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { Backlog, type BacklogState } from './backlog.js';
import { ResumeSecret } from './secret.js';

/** Acknowledge after this many bytes, or this long after the first unacknowledged one. */
const ACK_BYTES = 131_072;
const ACK_MS = 200;

/** How much of what was sent is kept for another link. */
export interface KeptBounds {
  /** The bytes that a session keeps before data waits. */
  readonly memoryBytes: number;
  /** The budget of all that share it. Default: the session's own. */
  readonly budget?: FairBudget;
}

interface ContinuityOptions extends KeptBounds {
  /** The sink of the first link; null: it begins without one, with what `restore` gives it. */
  readonly sink: ByteSink | null;
  readonly clock: Clock;
  /** Whether this side's stream ids are odd. */
  readonly isOdd: boolean;
  /** Received bytes of the session, of frames of every type. */
  readonly receivedBytes: () => number;
  readonly sendAck: (totalBytes: number) => void;
}

/** The state of a {@link Continuity}. It includes the secret of the session. */
export interface ContinuityState {
  readonly backlog: BacklogState;
  /** This side's part of the secret, while it waits for the peer's. */
  ownPart: Buffer | null;
  /** Null before both sides have sent their part: only while the session is handed over. */
  secret: Buffer | null;
  /** As announced by this side's newest ACK or RESUME. */
  acknowledgedBytes: number;
  /** Bytes of ACKs received since: they alone are not acknowledged. */
  ackBytes: number;
  /** When an ACK is due; null if none is. */
  ackDueAtMs: number | null;
}

const newState = (): Omit<ContinuityState, 'backlog'> => ({
  ownPart: null,
  secret: null,
  acknowledgedBytes: 0,
  ackBytes: 0,
  ackDueAtMs: null,
});

export class Continuity {
  /** The sink of the session, on any link. */
  readonly backlog: Backlog;
  readonly #options: ContinuityOptions;
  readonly #state: Omit<ContinuityState, 'backlog'>;
  #secret: ResumeSecret | null;
  #isOver = false;
  #cancelAck: CancelTimer | null = null;

  /** With the `state` of another one, call `goOn` next. */
  constructor(options: ContinuityOptions, state?: ContinuityState) {
    this.#options = options;
    this.#state = state ?? newState();
    const { secret } = this.#state;
    this.#secret = secret === null ? null : ResumeSecret.restore(secret);
    this.#state.secret = null;
    this.backlog = new Backlog(options.sink, options.memoryBytes, options.budget, state?.backlog);
  }

  get state(): ContinuityState {
    return { ...this.#state, backlog: this.backlog.state, secret: this.#secret?.export() ?? null };
  }

  /** Restarts the timer of an ACK that is due. */
  goOn(): void {
    const { ackDueAtMs } = this.#state;
    if (ackDueAtMs !== null) this.#acknowledgeIn(ackDueAtMs - this.#options.clock.now());
  }

  /** Null before both sides have sent their part: until then the session ends with its link. */
  get secret(): ResumeSecret | null {
    return this.#secret;
  }

  /** Notes this side's part of the secret, which was sent. */
  giveSecret(part: Buffer): void {
    this.#state.ownPart = part;
  }

  /** Takes the peer's part of the secret, which completes it. Throws `protocol-error` for a second one. */
  handleSecret(part: Buffer): void {
    const own = this.#state.ownPart;
    if (own === null) throw protocolError('duplicate SECRET frame');
    this.#state.ownPart = null;
    this.#secret = this.#options.isOdd ? ResumeSecret.of(own, part) : ResumeSecret.of(part, own);
  }

  /** Takes the peer's ACK. Throws `protocol-error` for more than it can have. */
  handleAck(totalBytes: number): void {
    this.backlog.acknowledge(totalBytes);
    this.#state.ackBytes += HEADER_BYTES + TOTAL_BYTES;
  }

  /**
   * Acknowledges what was read: now and then, and soon after the last of it. Throws `flood` for a peer that does not acknowledge
   * but makes this side send more and more.
   */
  handleReceived(): void {
    if (this.#isOver) return;
    const { receivedBytes } = this.#options;
    const owedBytes = receivedBytes() - this.#state.acknowledgedBytes - this.#state.ackBytes;
    if (owedBytes >= ACK_BYTES) this.#acknowledge();
    else if (owedBytes > 0 && this.#cancelAck === null) this.#acknowledgeIn(ACK_MS);
    if (this.backlog.isOverfull)
      throw new VproxyError('flood', `the peer has not acknowledged ${this.backlog.keptBytes} bytes`);
  }

  /** Detaches the link. */
  suspend(): void {
    this.backlog.detach();
    this.#stopAck();
  }

  /**
   * Continues on another link, whose peer knows what came here and has itself received `peerReceivedBytes`. Returns how many
   * bytes are sent again. Throws `protocol-error` for an impossible number.
   */
  resume(sink: ByteSink, peerReceivedBytes: number): number {
    const againBytes = this.backlog.attach(sink, peerReceivedBytes);
    this.#noteAcknowledged();
    return againBytes;
  }

  /** Ends with the session and keeps nothing more. `isWritten`: what waits is handed to the link first. See `Backlog.end`. */
  end(isWritten: boolean): (() => void)[] {
    this.#isOver = true;
    this.#stopAck();
    return this.backlog.end(isWritten);
  }

  #acknowledgeIn(delayMs: number): void {
    const { clock } = this.#options;
    this.#state.ackDueAtMs = clock.now() + delayMs;
    this.#cancelAck = clock.schedule(Math.max(0, delayMs), () => this.#acknowledge());
  }

  #acknowledge(): void {
    this.#stopAck();
    this.#noteAcknowledged();
    this.#options.sendAck(this.#state.acknowledgedBytes);
  }

  #noteAcknowledged(): void {
    this.#state.acknowledgedBytes = this.#options.receivedBytes();
    this.#state.ackBytes = 0;
  }

  #stopAck(): void {
    this.#cancelAck?.();
    this.#cancelAck = null;
    this.#state.ackDueAtMs = null;
  }
}

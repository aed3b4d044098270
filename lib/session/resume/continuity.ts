/**
 * What makes a session outlive its links: the secret that both sides know, what each acknowledges to the other, and what is kept
 * until it is (R-RESUME-1, R-RESUME-2, R-RESUME-5).
 */
import type { ByteSink } from '../../codec/frame-writer.js';
import { HEADER_BYTES } from '../../codec/limits.js';
import { TOTAL_BYTES } from '../../codec/payloads.js';
import { VproxyError } from '../../errors.js';
import type { FairBudget } from '../../util/bounds.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { Backlog, type BacklogState } from './backlog.js';
import { ResumeSecret } from './secret.js';

/** What came is acknowledged after so many bytes, and so long after the first of them. */
const ACK_BYTES = 131_072;
const ACK_MS = 200;

/** How much of what was sent is kept for another link. */
export interface KeptBounds {
  /** What a session keeps before data waits, in bytes. */
  readonly memoryBytes: number;
  /** What all that share it keep together. Default: the session's own. */
  readonly budget?: FairBudget;
}

interface ContinuityOptions extends KeptBounds {
  /** That of the first link; null: it begins without one, with what `restore` gives it. */
  readonly sink: ByteSink | null;
  readonly clock: Clock;
  /** Whether this side's stream ids are odd. */
  readonly isOdd: boolean;
  /** What came in the session, of frames of every type, in bytes. */
  readonly receivedBytes: () => number;
  /** Sends an ACK of this total. */
  readonly sendAck: (totalBytes: number) => void;
}

/** How far the sides of a session are in a {@link Continuity}. It has the secret of the session in it. */
export interface ContinuityState {
  readonly backlog: BacklogState;
  /** This side's part of the secret, while the peer's is waited for. */
  ownPart: Buffer | null;
  /** Null before both sides have given their part of it: only while the session is handed over. */
  secret: Buffer | null;
  /** As the newest ACK of this side says, or its RESUME. */
  acknowledgedBytes: number;
  /** Bytes of ACKs that came since: they alone are answered with none. */
  ackBytes: number;
  /** When an ACK is due; null where none is. */
  ackDueAtMs: number | null;
}

const newState = (): Omit<ContinuityState, 'backlog'> => ({
  ownPart: null,
  secret: null,
  acknowledgedBytes: 0,
  ackBytes: 0,
  ackDueAtMs: null,
});

/** One session's. */
export class Continuity {
  /** The sink of the session, on whatever link. */
  readonly backlog: Backlog;
  readonly #options: ContinuityOptions;
  readonly #state: Omit<ContinuityState, 'backlog'>;
  #secret: ResumeSecret | null;
  #isOver = false;
  #cancelAck: CancelTimer | null = null;

  /** With the `state` of another one `goOn` is to follow. */
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

  /** From now on an ACK that is due is sent when it is. */
  goOn(): void {
    const { ackDueAtMs } = this.#state;
    if (ackDueAtMs !== null) this.#acknowledgeIn(ackDueAtMs - this.#options.clock.now());
  }

  /** Null before both sides have given their part of it: the session ends with its link until then. */
  get secret(): ResumeSecret | null {
    return this.#secret;
  }

  /** This side has sent its part of the secret. */
  giveSecret(part: Buffer): void {
    this.#state.ownPart = part;
  }

  /** The peer's part of the secret, which is complete with it. Throws `protocol-error` where it came before. */
  takeSecret(part: Buffer): void {
    const own = this.#state.ownPart;
    if (own === null) throw new VproxyError('protocol-error', 'SECRET, which is there already');
    this.#state.ownPart = null;
    this.#secret = this.#options.isOdd ? ResumeSecret.of(own, part) : ResumeSecret.of(part, own);
  }

  /** The peer's ACK. Throws `protocol-error` for more than it can have. */
  takeAck(totalBytes: number): void {
    this.backlog.acknowledge(totalBytes);
    this.#state.ackBytes += HEADER_BYTES + TOTAL_BYTES;
  }

  /**
   * Acknowledges what was read: now and then, and soon after the last of it. Throws `flood` for a peer that does not do that, and
   * has this side send more and more.
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

  /** The link is gone. */
  suspend(): void {
    this.backlog.detach();
    this.#stopAck();
  }

  /**
   * Goes on with another link, whose peer has been told what came, and has itself received `peerReceivedBytes`. Gives how many
   * bytes are written again. Throws `protocol-error` for a number that cannot be.
   */
  resume(sink: ByteSink, peerReceivedBytes: number): number {
    const againBytes = this.backlog.attach(sink, peerReceivedBytes);
    this.#noteAcknowledged();
    return againBytes;
  }

  /** The session is over: nothing is kept any more. `isWritten`: what waits is handed to the link before. See `Backlog.end`. */
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

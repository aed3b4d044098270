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
import { Backlog, type BacklogCapture } from './backlog.js';
import { ResumeSecret } from './secret.js';

/** What came is acknowledged after so many bytes, and so long after the first of them. */
const ACK_BYTES = 131_072;
const ACK_MS = 200;

interface ContinuityOptions {
  /** That of the first link; null: it begins without one, with what `restore` gives it. */
  readonly sink: ByteSink | null;
  /** What is kept before data waits, in bytes. */
  readonly memoryBytes: number;
  readonly budget: FairBudget | undefined;
  readonly clock: Clock;
  /** Whether this side's stream ids are odd. */
  readonly isOdd: boolean;
  /** What came in the session, of frames of every type, in bytes. */
  readonly receivedBytes: () => number;
  /** Sends an ACK of this total. */
  readonly sendAck: (totalBytes: number) => void;
}

/** A {@link Continuity} as plain data. It has the secret of the session in it. */
export interface ContinuityCapture {
  readonly backlog: BacklogCapture;
  /** This side's part of the secret, while the peer's is waited for. */
  readonly ownPart: Buffer | null;
  readonly secret: Buffer | null;
  readonly isSuspended: boolean;
  readonly acknowledgedBytes: number;
  readonly ackBytes: number;
  /** When an ACK is due, in milliseconds from now on; null where none is. */
  readonly ackDueMs: number | null;
}

/** One session's. */
export class Continuity {
  /** The sink of the session, on whatever link. */
  readonly backlog: Backlog;
  readonly #options: ContinuityOptions;
  #ownPart: Buffer | null = null;
  #secret: ResumeSecret | null = null;
  #isSuspended = false;
  #isOver = false;
  /** As the newest ACK of this side says, or its RESUME. */
  #acknowledgedBytes = 0;
  /** Bytes of ACKs that came since: they alone are answered with none. */
  #ackBytes = 0;
  #ackDueAtMs: number | null = null;
  #cancelAck: CancelTimer | null = null;

  constructor(options: ContinuityOptions) {
    this.#options = options;
    this.backlog = new Backlog(options.sink, options.memoryBytes, options.budget);
  }

  capture(): ContinuityCapture {
    return {
      backlog: this.backlog.capture(),
      ownPart: this.#ownPart,
      secret: this.#secret?.export() ?? null,
      isSuspended: this.#isSuspended,
      acknowledgedBytes: this.#acknowledgedBytes,
      ackBytes: this.#ackBytes,
      ackDueMs: this.#ackDueAtMs === null ? null : this.#ackDueAtMs - this.#options.clock.now(),
    };
  }

  /** Takes what another one had. `goOn` is to follow. */
  restore(capture: ContinuityCapture): void {
    this.backlog.restore(capture.backlog);
    this.#ownPart = capture.ownPart === null ? null : Buffer.from(capture.ownPart);
    this.#secret = capture.secret === null ? null : ResumeSecret.restore(Buffer.from(capture.secret));
    this.#isSuspended = capture.isSuspended;
    this.#acknowledgedBytes = capture.acknowledgedBytes;
    this.#ackBytes = capture.ackBytes;
    this.#ackDueAtMs = capture.ackDueMs === null ? null : this.#options.clock.now() + capture.ackDueMs;
  }

  /** From now on an ACK that is due is sent when it is. */
  goOn(): void {
    if (this.#ackDueAtMs !== null) this.#acknowledgeIn(this.#ackDueAtMs - this.#options.clock.now());
  }

  /** Null before both sides have given their part of it: the session ends with its link until then. */
  get secret(): ResumeSecret | null {
    return this.#secret;
  }

  /** Whether the session has no link now. */
  get isSuspended(): boolean {
    return this.#isSuspended;
  }

  /** This side has sent its part of the secret. */
  giveSecret(part: Buffer): void {
    this.#ownPart = part;
  }

  /** The peer's part of the secret, which is complete with it. Throws `protocol-error` where it came before. */
  takeSecret(part: Buffer): ResumeSecret {
    const own = this.#ownPart;
    if (own === null) throw new VproxyError('protocol-error', 'SECRET, which is there already');
    this.#ownPart = null;
    this.#secret = this.#options.isOdd ? ResumeSecret.of(own, part) : ResumeSecret.of(part, own);
    return this.#secret;
  }

  /** The peer's ACK. Throws `protocol-error` for more than it can have. */
  takeAck(totalBytes: number): void {
    this.backlog.acknowledge(totalBytes);
    this.#ackBytes += HEADER_BYTES + TOTAL_BYTES;
  }

  /**
   * Acknowledges what was read: now and then, and soon after the last of it. Throws `flood` for a peer that does not do that, and
   * has this side send more and more.
   */
  handleReceived(): void {
    if (this.#isOver) return;
    const { receivedBytes } = this.#options;
    const owedBytes = receivedBytes() - this.#acknowledgedBytes - this.#ackBytes;
    if (owedBytes >= ACK_BYTES) this.#acknowledge();
    else if (owedBytes > 0 && this.#cancelAck === null) this.#acknowledgeIn(ACK_MS);
    if (this.backlog.isOverfull)
      throw new VproxyError('flood', `the peer has not acknowledged ${this.backlog.keptBytes} bytes`);
  }

  /** The link is gone. */
  suspend(): void {
    this.#isSuspended = true;
    this.backlog.detach();
    this.#stopAck();
  }

  /**
   * Goes on with another link, whose peer has been told what came, and has itself received `peerReceivedBytes`. Gives how many
   * bytes are written again. Throws `protocol-error` for a number that cannot be.
   */
  resume(sink: ByteSink, peerReceivedBytes: number): number {
    const againBytes = this.backlog.attach(sink, peerReceivedBytes);
    this.#isSuspended = false;
    this.#noteAcknowledged();
    return againBytes;
  }

  /** The session is over: nothing is kept any more. `isWritten`: what waits is handed to the link before. See `Backlog.end`. */
  end(isWritten: boolean): (() => void)[] {
    this.#isSuspended = false;
    this.#isOver = true;
    this.#stopAck();
    return this.backlog.end(isWritten);
  }

  #acknowledgeIn(delayMs: number): void {
    const { clock } = this.#options;
    this.#ackDueAtMs = clock.now() + delayMs;
    this.#cancelAck = clock.schedule(Math.max(0, delayMs), () => this.#acknowledge());
  }

  #acknowledge(): void {
    this.#stopAck();
    this.#noteAcknowledged();
    this.#options.sendAck(this.#acknowledgedBytes);
  }

  #noteAcknowledged(): void {
    this.#acknowledgedBytes = this.#options.receivedBytes();
    this.#ackBytes = 0;
  }

  #stopAck(): void {
    this.#cancelAck?.();
    this.#cancelAck = null;
    this.#ackDueAtMs = null;
  }
}

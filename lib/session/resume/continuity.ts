/**
 * What makes a session outlive its links: the secret that both sides know, what each acknowledges to the other, and what is kept
 * until it is (R-RESUME-1, R-RESUME-2, R-RESUME-5).
 */
import type { ByteSink } from '../../codec/frame-writer.js';
import { HEADER_BYTES } from '../../codec/limits.js';
import { TOTAL_BYTES } from '../../codec/payloads.js';
import { VproxyError } from '../../errors.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { Backlog } from './backlog.js';
import { ResumeSecret } from './secret.js';

/** What came is acknowledged after so many bytes, and so long after the first of them. */
const ACK_BYTES = 131_072;
const ACK_MS = 200;

interface ContinuityOptions {
  /** That of the first link. */
  readonly sink: ByteSink;
  /** What is kept before data waits, in bytes. */
  readonly memoryBytes: number;
  readonly clock: Clock;
  /** Whether this side's stream ids are odd. */
  readonly isOdd: boolean;
  /** What came in the session, of frames of every type, in bytes. */
  readonly receivedBytes: () => number;
  /** Sends an ACK of this total. */
  readonly sendAck: (totalBytes: number) => void;
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
  #cancelAck: CancelTimer | null = null;

  constructor(options: ContinuityOptions) {
    this.#options = options;
    this.backlog = new Backlog(options.sink, options.memoryBytes);
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
    this.#secret = this.#options.isOdd ? new ResumeSecret(own, part) : new ResumeSecret(part, own);
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
    const { clock, receivedBytes } = this.#options;
    const owedBytes = receivedBytes() - this.#acknowledgedBytes - this.#ackBytes;
    if (owedBytes >= ACK_BYTES) this.#acknowledge();
    else if (owedBytes > 0) this.#cancelAck ??= clock.schedule(ACK_MS, () => this.#acknowledge());
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
  }
}

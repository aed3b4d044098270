/** The common part of links over sockets, Duplexes and devices: how they start, pause, drain and end. */
import { systemCode, VproxyError } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { describeError } from '../util/escape.js';
import type { Link, LinkHandler } from './link.js';

/**
 * `open`: reads and writes. `closing`: the reason for the end is known; queued bytes are being written or dropped. `finishing`:
 * the transport has closed, and what depends on it is cleaned up (see `beforeClosed`). `closed`: the handler is informed.
 */
type LinkPhase = 'open' | 'closing' | 'finishing' | 'closed';

/** Error codes by which a transport reports that its other end has closed. */
const GONE_CODES: readonly string[] = ['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE'];

/** The base of each transport, which calls `fail` when it breaks and `transportGone` when it has closed. */
export abstract class BaseLink implements Link {
  readonly description: string;
  protected readonly clock: Clock;
  protected phase: LinkPhase = 'open';
  protected handler: LinkHandler | null = null;
  protected isPaused = false;
  /** A write was not taken at once: `onDrain` is owed. */
  protected awaitsDrain = false;
  #reason: VproxyError | null = null;
  #finish: ((reason: VproxyError) => Promise<VproxyError>) | null = null;
  #cancelClose: CancelTimer | null = null;

  constructor(description: string, clock: Clock) {
    this.description = description;
    this.clock = clock;
  }

  abstract get unwrittenBytes(): number;
  abstract write(bytes: Buffer): boolean;
  abstract writeParts(parts: readonly Buffer[]): boolean;

  /** Delivers what was read before, and starts reading unless paused. */
  protected abstract begin(handler: LinkHandler): void;
  /** Resumes reading after a pause. */
  protected abstract readOn(): void;
  /** Writes what is queued, then closes the transport. */
  protected abstract endTransport(): void;
  /** Closes the transport and drops what is queued; may be called repeatedly. `transportGone` follows. */
  protected abstract dropTransport(): void;

  /**
   * Registers `finish`, called once with the reason when the transport has closed, even if the link was never started. The
   * handler is informed after it has resolved, with the reason that it returned. For cleanup beyond closing a descriptor: a
   * terminal's settings, a child process.
   */
  beforeClosed(finish: (reason: VproxyError) => Promise<VproxyError>): this {
    this.#finish = finish;
    return this;
  }

  /** Whether it is open and its end needs no cleanup beyond the transport. */
  protected get isTransportAlone(): boolean {
    return this.phase === 'open' && this.#finish === null;
  }

  start(handler: LinkHandler): void {
    this.handler = handler;
    queueMicrotask(() => {
      if (this.phase === 'closed') this.#report();
      else if (this.phase !== 'finishing') this.begin(handler);
    });
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
    if (this.phase === 'open' || this.phase === 'closing') this.readOn();
  }

  close(timeoutMs = 500): void {
    const isFirst = this.phase === 'open';
    if (isFirst) this.#endFor(this.#shutdown());
    else if (this.phase !== 'closing') return;
    const cancelEarlier = this.#cancelClose;
    const cancel = this.clock.schedule(timeoutMs, () => this.dropTransport());
    this.#cancelClose = () => {
      cancelEarlier?.();
      cancel();
    };
    if (isFirst) this.endTransport();
  }

  destroy(): void {
    this.fail(this.#shutdown());
  }

  /** Ends the link at once, for `reason` unless another reason is known already. */
  protected fail(reason: VproxyError): void {
    if (this.phase === 'open') this.#endFor(reason);
    this.dropTransport();
  }

  protected transportGone(): void {
    if (this.phase === 'finishing' || this.phase === 'closed') return;
    if (this.phase === 'open') this.#endFor(this.closedByPeer());
    this.#cancelClose?.();
    const finish = this.#finish;
    if (finish === null) {
      this.#closed();
      return;
    }
    this.phase = 'finishing';
    void finish(this.#reason ?? this.#shutdown()).then((reason) => {
      this.#reason = reason;
      this.#closed();
    });
  }

  /** Everything written has gone out, which the handler waits for. */
  protected drained(): void {
    if (this.phase !== 'open') return;
    this.awaitsDrain = false;
    this.handler?.onDrain();
  }

  protected failure(error: Error): VproxyError {
    const isGone = GONE_CODES.includes(systemCode(error));
    const what = isGone ? 'was closed by the peer' : 'failed';
    const code = isGone ? 'channel-closed' : 'channel-failed';
    return new VproxyError(code, `${this.description} ${what}: ${describeError(error)}`, { cause: error });
  }

  protected closedByPeer(): VproxyError {
    return new VproxyError('channel-closed', `${this.description} was closed by the peer`);
  }

  #shutdown(): VproxyError {
    return new VproxyError('shutdown', `${this.description} was closed`);
  }

  #endFor(reason: VproxyError): void {
    this.phase = 'closing';
    this.#reason = reason;
  }

  #closed(): void {
    this.phase = 'closed';
    if (this.handler !== null) queueMicrotask(() => this.#report());
  }

  #report(): void {
    const { handler } = this;
    this.handler = null;
    handler?.onClosed(this.#reason ?? this.#shutdown());
  }
}

/** The session as its streams see it: what a stream does there passes through here. */
import type { VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import type { Outbox } from './outbox.js';
import type { Retractions } from './retractions.js';
import type { Sender } from './sender.js';
import type { SessionCredit } from './session-credit.js';
import type { SessionStream } from './session-stream.js';
import type { StreamHost } from './stream-host.js';
import type { StreamTable } from './stream-table.js';

/** The parts of a session that its streams have to do with. */
export interface SessionParts {
  readonly clock: Clock;
  readonly credit: SessionCredit;
  readonly outbox: Outbox;
  readonly retractions: Retractions;
  readonly sender: Sender;
  readonly table: StreamTable;
  readonly control: StreamHost['control'];
  /** A stream is over: the session may be drained. */
  readonly onOver: (reason: VproxyError | null) => void;
}

export class SessionHost implements StreamHost {
  readonly #parts: SessionParts;

  constructor(parts: SessionParts) {
    this.#parts = parts;
  }

  get nowMs(): number {
    return this.#parts.clock.now();
  }

  get roundTripMs(): number {
    return this.#parts.credit.roundTripMs;
  }

  frameBytes(streamId: number): number {
    return this.#parts.sender.frameBytes(streamId);
  }

  offer(stream: SessionStream): void {
    this.#parts.sender.offer(stream);
  }

  control(type: number, streamId: number, payload: Buffer): void {
    this.#parts.control(type, streamId, payload);
  }

  raise(stream: SessionStream): void {
    this.#parts.outbox.addCredit(stream);
    this.#parts.sender.flush();
  }

  answered(stream: SessionStream): void {
    this.#parts.table.answered(stream);
    this.#parts.table.releaseHeld();
  }

  retracted(): void {
    if (this.#parts.retractions.add()) this.#parts.table.forgetRetracted(1);
  }

  over(stream: SessionStream, reason: VproxyError | null): void {
    this.#parts.sender.forget(stream);
    this.#parts.table.over(stream);
    this.#parts.table.releaseHeld();
    this.#parts.onOver(reason);
  }

  drained(stream: SessionStream): void {
    this.#parts.table.drained(stream);
  }
}

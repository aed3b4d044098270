/** The last events of the process, and those who follow them. */
import type { LogEvent } from '../util/log-event.js';

/** An event with its place among all events of the process. */
export interface ControlEvent extends Omit<LogEvent, 'event'> {
  /** One of `LOG_EVENTS`, or of those of another version. */
  readonly event: string;
  /** 1 for the first one, and one more for each. */
  readonly seq: number;
  /** When it happened: ISO 8601, UTC. */
  readonly time: string;
}

/** So many events are kept. */
export const RING_EVENTS = 500;

/** Keeps the last events; who follows is called for each new one, and reads from the ring what it wants. */
export class EventRing {
  readonly #events: ControlEvent[] = [];
  readonly #followers = new Set<() => void>();
  #lastSeq = 0;
  #isClosed = false;

  /** Takes an event up. */
  record(event: LogEvent): void {
    this.#lastSeq += 1;
    const { level, event: name, message, fields } = event;
    const time = new Date().toISOString();
    this.#events[this.#lastSeq % RING_EVENTS] = { seq: this.#lastSeq, time, level, event: name, message, fields };
    this.#tell();
  }

  /** The number of the newest event; 0 before the first. */
  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** The number of the oldest event that is kept. */
  get firstSeq(): number {
    return Math.max(1, this.#lastSeq - RING_EVENTS + 1);
  }

  /** The event of a number from `firstSeq` to `lastSeq`; undefined for any other. */
  at(seq: number): ControlEvent | undefined {
    const event = this.#events[seq % RING_EVENTS];
    return event?.seq === seq ? event : undefined;
  }

  /** Whether no more events come. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Calls `onChange` after each event and at the close, until the function returned is called. */
  follow(onChange: () => void): () => void {
    this.#followers.add(onChange);
    return () => this.#followers.delete(onChange);
  }

  /** Says to those who follow that no more comes. */
  close(): void {
    this.#isClosed = true;
    this.#tell();
  }

  #tell(): void {
    for (const onChange of this.#followers) onChange();
  }
}

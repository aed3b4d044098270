/** The last events of the process, in a ring buffer, and their output to following clients. */

import type { ServerResponse } from 'node:http';
import { type LogEvent, makeEvent } from '../../events.js';
import type { ControlEvent } from '../../status/types.js';
import { formatCount } from '../../util/units.js';

export const RING_EVENTS = 500;

/** Keeps the last events. Calls followers for each new event; they read from the ring. */
export class EventRing {
  readonly #events: { readonly seq: number; readonly atMs: number; readonly event: LogEvent }[] = [];
  readonly #followers = new Set<() => void>();
  #lastSeq = 0;
  #isClosed = false;

  record(event: LogEvent): void {
    this.#lastSeq += 1;
    this.#events[this.#lastSeq % RING_EVENTS] = { seq: this.#lastSeq, atMs: Date.now(), event };
    this.#tell();
  }

  /** The sequence number of the newest event; 0 before the first. */
  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** The sequence number of the oldest event kept. */
  get firstSeq(): number {
    return Math.max(1, this.#lastSeq - RING_EVENTS + 1);
  }

  /** The event with a sequence number from `firstSeq` to `lastSeq`; undefined for any other. */
  at(seq: number): ControlEvent | undefined {
    const kept = this.#events[seq % RING_EVENTS];
    if (kept?.seq !== seq) return undefined;
    const { level, event, message, fields } = kept.event;
    return { seq, time: new Date(kept.atMs).toISOString(), level, event, message, fields };
  }

  /** Whether the ring is closed: no more events follow. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Calls `onChange` after each event and on close, until the returned function is called. */
  follow(onChange: () => void): () => void {
    this.#followers.add(onChange);
    return () => this.#followers.delete(onChange);
  }

  /** Closes the ring and notifies the followers. */
  close(): void {
    this.#isClosed = true;
    this.#tell();
  }

  #tell(): void {
    for (const onChange of this.#followers) onChange();
  }
}

// Events as lines of JSON, at the client's pace.

/** Writing pauses while this many bytes wait for the client. */
const MAX_WAITING_BYTES = 131_072;

/** Lines are batched up to this length, in characters. */
const BATCH_LENGTH = 16_384;

/**
 * Writes the last `replay` events and, if `isFollowing`, new ones until the client disconnects or the ring is closed. Events
 * for a slow client wait in the ring; those that have left it before the client reads on are lost, and an event
 * `events-lost` reports their number.
 */
export function followEvents(
  ring: EventRing,
  response: ServerResponse,
  { replay, isFollowing }: { readonly replay: number; readonly isFollowing: boolean },
): void {
  const untilSeq = isFollowing ? Number.POSITIVE_INFINITY : ring.lastSeq;
  let nextSeq = Math.max(ring.firstSeq, ring.lastSeq - replay + 1);
  let isDue = false;

  const writeBatch = (): void => {
    let text = '';
    while (nextSeq <= Math.min(ring.lastSeq, untilSeq) && text.length < BATCH_LENGTH) {
      if (nextSeq < ring.firstSeq) {
        text += lineOf(lostEvents(ring.firstSeq - 1, ring.firstSeq - nextSeq));
        nextSeq = ring.firstSeq;
      }
      text += lineOf(ring.at(nextSeq));
      nextSeq += 1;
    }
    if (text !== '') response.write(text);
  };
  const pump = (): void => {
    isDue = false;
    if (response.destroyed || response.writableEnded) return;
    while (nextSeq <= Math.min(ring.lastSeq, untilSeq) && response.writableLength < MAX_WAITING_BYTES) writeBatch();
    if (ring.isClosed || nextSeq > untilSeq) response.end();
  };
  const unfollow = ring.follow(() => {
    // Batch the events of one turn.
    if (!isDue && !ring.isClosed) queueMicrotask(pump);
    isDue = true;
    if (ring.isClosed) pump();
  });
  response.on('drain', pump).once('close', unfollow);
  response.flushHeaders();
  pump();
}

const lineOf = (event: ControlEvent | undefined): string => `${JSON.stringify(event)}\n`;

function lostEvents(seq: number, count: number): ControlEvent {
  const message = `lost ${formatCount(count, 'event')}: client too slow`;
  return { seq, time: new Date().toISOString(), ...makeEvent('events-lost', message, { count }) };
}

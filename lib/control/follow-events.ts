/** Events as lines of JSON, for one who reads them at its own pace. */
import type { ServerResponse } from 'node:http';
import type { ControlEvent, EventRing } from './event-ring.js';

/** No more is written while so many bytes wait for the reader. */
const MAX_WAITING_BYTES = 131_072;

/** Lines are written together up to this length, in characters. */
const BATCH_LENGTH = 16_384;

export interface FollowOptions {
  /** How many of the events that have happened already come first. */
  readonly replay: number;
  /** Whether to go on with those that happen; else the answer ends. */
  readonly isFollowing: boolean;
}

/**
 * Writes events until the reader goes or the ring is closed. What waits for a slow reader waits in the ring: what has
 * left it by the time that the reader goes on is lost, and an event `events-lost` says how many those were.
 */
export function followEvents(ring: EventRing, response: ServerResponse, { replay, isFollowing }: FollowOptions): void {
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
    // What happens in one turn is written at once.
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
  const message = `${count} events were not read in time, and are lost`;
  return { seq, time: new Date().toISOString(), level: 'warn', event: 'events-lost', message, fields: { count } };
}

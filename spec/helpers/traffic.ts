/** Any number of streams of patterns between the two sides of a pair, with a verdict at the end. */

import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import type { Session } from '../../lib/session/session.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { hiddenReset } from '../../lib/system/sockets/node-sockets.js';
import { PatternEnd } from './local-ends.js';
import { within } from './time.js';

export interface TrafficSide {
  readonly loop: { readonly session: Session | null };
  /** Called for every session before it starts. */
  onSession: (session: Session) => void;
}

interface TrafficPair {
  readonly a: TrafficSide;
  readonly b: TrafficSide;
}

/** The reaction of the other side to a stream that was opened. */
export type Answer = 'accept' | 'later' | 'refuse' | 'ignore';

/** Makes both sides of a pair accept streams of the other, unless the opener asked for another answer. */
export class Traffic {
  readonly pair: TrafficPair;
  readonly ends: PatternEnd[] = [];
  readonly #openers = new Map<string, PatternEnd>();
  readonly #answers = new Map<string, Answer>();
  /** The ends of streams that will be announced again. */
  readonly #moving = new Map<string, PatternEnd>();

  constructor(pair: TrafficPair) {
    this.pair = pair;
    for (const side of [pair.a, pair.b]) {
      side.onSession = (session) => {
        session.server = { serve: (stream) => this.#take(session, stream) };
      };
    }
  }

  /** A new stream from one side, or null if it has no session or its session drains. */
  open(side: TrafficSide, answer: Answer = 'accept'): PatternEnd | null {
    const { session } = side.loop;
    if (session === null || session.isDraining) return null;
    const end = new PatternEnd(2 * this.#openers.size);
    const service = `s${this.#openers.size}`;
    this.#openers.set(service, end);
    this.#answers.set(service, answer);
    end.session = session;
    end.stream = session.open(service, null, end);
    this.ends.push(end);
    return end;
  }

  faults(): string[] {
    return this.ends.flatMap((end, index) => {
      const faults = [...end.faults];
      const wantedBytes = end.other?.wantedBytes ?? end.receivedBytes;
      if (end.isOver && end.reason === null && !end.hasStopped && end.receivedBytes !== wantedBytes) {
        faults.push(`ended in order after ${end.receivedBytes} of ${wantedBytes} bytes`);
      }
      return faults.map((fault) => `end ${index}: ${fault}`);
    });
  }

  /** Another process takes over the streams of a session: `streams` replaces `before`; unanswered ones are announced again. */
  move(from: Session, session: Session, before: readonly SessionStream[], streams: readonly SessionStream[]): void {
    for (const end of this.ends) if (end.session === from) end.forgetBuffers();
    for (const [index, stream] of streams.entries()) {
      const end = this.ends.find((one) => one.stream === before[index]);
      if (end === undefined) throw new Error(`unknown stream ${stream.id}`);
      if (stream.isIncoming && !stream.isAnswered) {
        this.#moving.set(stream.service, end);
      } else {
        end.moveTo(stream, session);
        stream.attach(end);
      }
    }
  }

  #take(session: Session, stream: SessionStream): void {
    const moving = this.#moving.get(stream.service);
    if (moving !== undefined) {
      this.#moving.delete(stream.service);
      moving.moveTo(stream, session);
      stream.attach(moving);
      return;
    }
    const opener = this.#openers.get(stream.service);
    // A service of an earlier session cannot appear again: the session would have ended.
    if (opener === undefined || opener.other !== null) throw new Error(`unexpected OPEN of ${stream.service}`);
    const answer = this.#answers.get(stream.service);
    if (answer === 'ignore') return;
    const end = new PatternEnd(opener.seed ^ 1);
    end.other = opener;
    opener.other = end;
    end.stream = stream;
    end.session = session;
    this.ends.push(end);
    stream.attach(end);
    if (answer === 'refuse') stream.refuse('denied', 'the opener wanted it so');
    else if (answer === 'accept') stream.accept();
  }

  /** Lets every stream continue and end. */
  finishAll(): void {
    for (const end of this.ends) {
      if (end.stream?.isIncoming === true) end.stream.accept();
      end.resume();
      end.finish();
    }
  }
}

// Transfers of a known pattern from end to end, which may be cut: the received part must be a prefix, and its end must tell
// whether it is complete.

export interface Outcome {
  /** `ended`: the other side reported that this was all; `reset`: something went wrong. */
  readonly end: 'ended' | 'reset';
  readonly receivedBytes: number;
  readonly isPrefix: boolean;
}

/** The contents of every transfer, cut to its length. */
const PATTERN = randomBytes(4_000_037);

export const MAX_TRANSFER_BYTES = PATTERN.length;

export function pattern(byteCount: number): Buffer {
  return PATTERN.subarray(0, byteCount);
}

/** Reads a socket until it ends or fails, comparing the bytes as they come. Rejects after `timeoutMs` (default 20,000). */
export function outcomeOf(socket: net.Socket, options: { timeoutMs?: number } = {}): Promise<Outcome> {
  const { timeoutMs = 20_000 } = options;
  let receivedBytes = 0;
  let isPrefix = true;
  socket.on('data', (chunk: Buffer) => {
    isPrefix &&= chunk.equals(PATTERN.subarray(receivedBytes, receivedBytes + chunk.length));
    receivedBytes += chunk.length;
  });
  const outcome = new Promise<Outcome>((resolve) => {
    socket.once('end', () => resolve({ end: hiddenReset(socket) ? 'reset' : 'ended', receivedBytes, isPrefix }));
    socket.once('close', () => resolve({ end: 'reset', receivedBytes, isPrefix }));
    socket.on('error', () => undefined);
  });
  return within(timeoutMs, 'the end of a transfer', outcome);
}

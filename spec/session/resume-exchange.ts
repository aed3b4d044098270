/** An exchange of 64 streams, always the same except for the byte after which its link is lost or another process takes over. */
import { FRAME_TYPE, formatFrameType } from '../../lib/codec/header.js';
import { DEFAULT_LIMITS, HEADER_BYTES } from '../../lib/codec/limits.js';
import type { SessionSettings } from '../../lib/session/settings.js';
import type { PatternEnd } from '../helpers/local-ends.js';
import { carry, type Side } from '../helpers/session-pair.js';
import type { Answer } from '../helpers/traffic.js';
import { ResumePair } from './resume-pair.js';

export const STREAMS = 64;

const PIECE_BYTES = 512;
/** The same when the link was lost. */
const LARGE_PIECE_BYTES = 65_536;
/** The trailer of DATA at the level `frame`. */
const TRAILER_BYTES = 4;
/** Longer than it takes for an ACK. */
const ROUND_MS = 250;

const LIMITS = { ...DEFAULT_LIMITS, frame: 4096, streamCredit: 1024, inFlight: 4096 };
/** More than the credit of a stream: the rest waits for CREDIT. */
const LONG = 1200;

/** From `a` to `b`, and from `b` to `a`. */
export const DIRECTIONS = ['forth', 'back'] as const;
export type Direction = (typeof DIRECTIONS)[number];

/** The incidents: the link is lost, or another process takes over from the sender or the receiver of the last byte. */
export const INCIDENTS = ['cut', 'sender', 'receiver'] as const;

/** It happens after this many bytes of one direction, from the start of the exchange on. */
export interface Incident {
  readonly what: (typeof INCIDENTS)[number];
  readonly direction: Direction;
  readonly at: number;
}

export const HAND_OVER_SETTINGS: Readonly<Record<string, Partial<SessionSettings>>> = {
  'frame, resumed': { integrity: 'frame' },
  'full, resumed': { integrity: 'full' },
  'frame, on one link': { integrity: 'frame', resume: null },
  'full, on one link': { integrity: 'full', resume: null },
};

/** The actions of both ends of a stream in a round. */
type Round = (opener: PatternEnd, other: PatternEnd | null) => void;

interface Course {
  readonly answer: Answer;
  /** The reason with which it ends at both ends; null: in order. */
  readonly code: string | null;
  /** In the last one both end what they send. */
  readonly rounds: readonly Round[];
}

const send =
  (bytes: number): Round =>
  (opener) =>
    opener.send(bytes);

const andFinish =
  (bytes: number): Round =>
  (opener) => {
    opener.send(bytes);
    opener.finish();
  };

const answer =
  (bytes: number): Round =>
  (_opener, other) =>
    other?.send(bytes);

const course = (code: string | null, answer: Answer, ...rounds: Round[]): Course => ({ answer, code, rounds });

/** A reset by either end, after bytes in flight. */
const resetBy = (isOpener: boolean): Course =>
  course('cancelled', 'accept', send(30), (opener, other) => {
    for (const end of [opener, other]) end?.send(20);
    (isOpener ? opener : other)?.stream?.reset('cancelled', 'as the exchange has it');
  });

/** The streams that a side opens take these courses in turn. */
const COURSES: readonly [Course, ...Course[]] = [
  // Bytes and FIN both ways at once.
  course(null, 'accept', send(60), (opener, other) => {
    other?.send(40);
    for (const end of [opener, other]) end?.finish();
  }),
  // Long, and ended by FIN before all of it is sent.
  course(null, 'accept', andFinish(LONG), (_opener, other) => other?.finish()),
  // A half that ends before the other one begins.
  course(null, 'accept', andFinish(0), answer(50), answer(LONG)),
  // A half that is stopped while it waits for credit; the other one continues.
  course(
    null,
    'accept',
    send(20),
    (opener, other) => {
      opener.isPaused = true;
      other?.send(LONG);
    },
    (opener) => {
      opener.stop();
      opener.send(30);
    },
  ),
  resetBy(true),
  resetBy(false),
  course('denied', 'refuse', send(20)),
  // An answer that comes late.
  course(null, 'later', send(40), answer(30), (_opener, other) => other?.stream?.accept()),
];

const ROUNDS = 3;

export class Exchange {
  readonly #pair: ResumePair;
  /** How many bytes were carried before it happened. */
  readonly bytes: Record<Direction, number> = { forth: 0, back: 0 };
  readonly #streams: { readonly course: Course; readonly opener: PatternEnd }[] = [];
  readonly #incident: Incident | null;
  readonly #carried: Record<Direction, Buffer[]> = { forth: [], back: [] };
  #hasHappened = false;

  constructor(incident: Incident | null = null, settings: Partial<SessionSettings> = {}) {
    this.#pair = new ResumePair({ settings: { limits: LIMITS, integrity: 'frame', ...settings }, identity: 1 });
    this.#incident = incident;
    this.#open();
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const { course: its, opener } of this.#streams) its.rounds[round]?.(opener, opener.other);
      this.#settle();
    }
    this.#pair.traffic.finishAll();
    this.#settle();
  }

  /** The names of the frames that were carried, in order; without an incident only, at the level `frame`. */
  frames(direction: Direction): string[] {
    const bytes = Buffer.concat(this.#carried[direction]);
    const names: string[] = [];
    for (let at = 0; at < bytes.length; ) {
      const type = bytes.readUInt8(at);
      names.push(formatFrameType(type));
      at += HEADER_BYTES + bytes.readUInt32BE(at + 8) + (type === FRAME_TYPE.DATA ? TRAILER_BYTES : 0);
    }
    return names;
  }

  faults(): string[] {
    const faults = this.#pair.leftovers();
    if (this.#hasHappened !== (this.#incident !== null)) faults.push('the exchange has no such byte');
    for (const { name, resumed } of this.#pair.sides) {
      if (resumed !== (this.#incident?.what === 'cut' ? 1 : 0)) faults.push(`${name} was resumed ${resumed} times`);
    }
    for (const [index, { course: wanted, opener }] of this.#streams.entries()) {
      for (const end of [opener, opener.other]) {
        const code = end?.reason?.code ?? null;
        if (end === null || code !== wanted.code) faults.push(`stream ${index} ends with ${code ?? 'FIN'}`);
        const isWhole = end?.hasStopped || (end?.receivedBytes === end?.other?.wantedBytes && end?.finReceived);
        if (wanted.code === null && isWhole !== true) faults.push(`stream ${index}: ${end?.receivedBytes} bytes came`);
      }
    }
    return faults;
  }

  #open(): void {
    const { traffic, sides } = this.#pair;
    for (let index = 0; index < STREAMS; index += 1) {
      const its = COURSES[(index >> 1) % COURSES.length] ?? COURSES[0];
      const opener = traffic.open(sides[index % 2] as Side, its.answer);
      if (opener === null) throw new Error('there is no session');
      this.#streams.push({ course: its, opener });
    }
  }

  /** Carries everything, twice: acknowledgements follow after a pause. */
  #settle(): void {
    this.#carryAll();
    this.#pair.clock.advance(ROUND_MS);
    this.#carryAll();
  }

  #carryAll(): void {
    const { a, b } = this.#pair;
    for (let moves = true; moves; ) {
      const forth = this.#carry('forth', a, b);
      const back = this.#carry('back', b, a);
      moves = forth || back;
    }
  }

  /** Carries a piece, up to where it happens. False when there was nothing to carry. */
  #carry(direction: Direction, from: Side, to: Side): boolean {
    if (this.#hasHappened) return carry(from, to, LARGE_PIECE_BYTES);
    const incident = this.#incident?.direction === direction ? this.#incident : null;
    const untilBytes = incident?.at ?? Number.POSITIVE_INFINITY;
    const moves = from.outbound.totalBytes > 0;
    const { bytes } = from.outbound.take(Math.min(PIECE_BYTES, untilBytes - this.bytes[direction]));
    if (this.#incident === null) this.#carried[direction].push(Buffer.from(bytes));
    this.bytes[direction] += bytes.length;
    if (bytes.length > 0) to.deliver(bytes);
    if (incident !== null && this.bytes[direction] === untilBytes) {
      this.#hasHappened = true;
      if (incident.what === 'cut') this.#pair.cut();
      else (incident.what === 'sender' ? from : to).handOver();
    }
    return moves;
  }
}

/** Runs an incident after every `stride`-th byte of a direction, from `first` on, each in an exchange of its own. */
export function happenAll(
  { what, direction }: Pick<Incident, 'what' | 'direction'>,
  stride: number,
  first: number,
  settings: Partial<SessionSettings> = {},
): { count: number; faults: string[] } {
  const { [direction]: bytes } = new Exchange(null, settings).bytes;
  let count = 0;
  for (let at = first; at <= bytes; at += stride) {
    const faults = new Exchange({ what, direction, at }, settings).faults();
    count += 1;
    if (faults.length > 0)
      return { count, faults: faults.map((fault) => `${what} ${direction} behind ${at}: ${fault}`) };
  }
  return { count, faults: [] };
}

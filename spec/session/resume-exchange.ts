/** An exchange of 64 streams that is the same each time, but for the byte behind which its link is lost, or another process takes over. */
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
/** Behind DATA, at the level `frame`. */
const TRAILER_BYTES = 4;
/** Longer than it takes for an ACK. */
const ROUND_MS = 250;

const LIMITS = { ...DEFAULT_LIMITS, frame: 4096, streamCredit: 1024, inFlight: 4096 };
/** More than the credit of a stream: the rest of it waits for CREDIT. */
const LONG = 1200;

/** From `a` to `b`, and from `b` to `a`. */
export const DIRECTIONS = ['forth', 'back'] as const;
export type Direction = (typeof DIRECTIONS)[number];

/** What can happen: the link is lost, or another process takes over from the side that the last byte came from, or went to. */
export const INCIDENTS = ['cut', 'sender', 'receiver'] as const;

/** It happens behind so many bytes of one direction, from the beginning of the exchange on. */
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

interface Course {
  readonly answer: Answer;
  /** With what it ends at both ends; null: in order. */
  readonly code: string | null;
  /** What its ends do in each round; in the last one both end what they send. */
  readonly rounds: readonly ((opener: PatternEnd, other: PatternEnd | null) => void)[];
}

type Round = Course['rounds'][number];

const accepted = (code: string | null, ...rounds: Round[]): Course => ({ answer: 'accept', code, rounds });

/** A reset by either end, behind bytes that are on the way. */
const resetBy = (isOpener: boolean): Course =>
  accepted(
    'cancelled',
    (opener) => opener.send(30),
    (opener, other) => {
      for (const end of [opener, other]) end?.send(20);
      (isOpener ? opener : other)?.stream?.reset('cancelled', 'as the exchange has it');
    },
  );

/** The streams that a side opens have these courses in turn. */
const COURSES: readonly [Course, ...Course[]] = [
  // Bytes and FIN both ways at once.
  accepted(
    null,
    (opener) => opener.send(60),
    (opener, other) => {
      other?.send(40);
      for (const end of [opener, other]) end?.finish();
    },
  ),
  // Long, and ended by FIN before all of it is sent.
  accepted(
    null,
    (opener) => {
      opener.send(LONG);
      opener.finish();
    },
    (_opener, other) => other?.finish(),
  ),
  // A half that ends before the other one begins.
  accepted(
    null,
    (opener) => opener.finish(),
    (_opener, other) => other?.send(50),
    (_opener, other) => other?.send(LONG),
  ),
  // A half that is stopped while it waits for credit; the other one goes on.
  accepted(
    null,
    (opener) => opener.send(20),
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
  { answer: 'refuse', code: 'denied', rounds: [(opener) => opener.send(20)] },
  // An answer that comes late.
  {
    answer: 'later',
    code: null,
    rounds: [
      (opener) => opener.send(40),
      (_opener, other) => other?.send(30),
      (_opener, other) => other?.stream?.accept(),
    ],
  },
];

const ROUNDS = 3;

export class Exchange {
  readonly #pair: ResumePair;
  /** How many were carried before it happened. */
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
      for (const { course, opener } of this.#streams) course.rounds[round]?.(opener, opener.other);
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
    const { traffic, sides, ended } = this.#pair;
    const faults = [...traffic.faults(), ...ended];
    if (this.#hasHappened !== (this.#incident !== null)) faults.push('the exchange has no such byte');
    for (const { name, session, sessions, resumed } of sides) {
      if (sessions.length !== 1) faults.push(`${name} had ${sessions.length} sessions`);
      if (resumed !== (this.#incident?.what === 'cut' ? 1 : 0)) faults.push(`${name} was resumed ${resumed} times`);
      if (session.streams.size > 0) faults.push(`${session.streams.size} streams are left at ${name}`);
      if (session.unwrittenBytes > 0) faults.push(`${session.unwrittenBytes} bytes wait at ${name}`);
    }
    for (const [index, { course, opener }] of this.#streams.entries()) {
      for (const fault of faultsOf(course, opener)) faults.push(`stream ${index}: ${fault}`);
    }
    return faults;
  }

  #open(): void {
    const { traffic, sides } = this.#pair;
    for (let index = 0; index < STREAMS; index += 1) {
      const course = COURSES[(index >> 1) % COURSES.length] ?? COURSES[0];
      const opener = traffic.open(sides[index % 2] as Side, course.answer);
      if (opener === null) throw new Error('there is no session');
      this.#streams.push({ course, opener });
    }
  }

  /** Carries all there is, twice: what is acknowledged is so behind a pause. */
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

/** What comes of an incident behind every `stride`-th byte of a direction, from `first` on, each in an exchange of its own. */
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

function faultsOf({ code }: Course, opener: PatternEnd): string[] {
  const faults: string[] = [];
  const { other } = opener;
  if (other === null) return ['it was never announced'];
  for (const end of [opener, other]) {
    if (!end.isOver) faults.push('it does not end');
    if ((end.reason?.code ?? null) !== code) faults.push(`it ends with ${end.reason?.code ?? 'FIN'}`);
    if (end.lentBuffers > 0) faults.push('a buffer does not come back');
    const isWhole = end.receivedBytes === end.other?.wantedBytes && end.finReceived;
    if (code === null && !end.hasStopped && !isWhole) faults.push(`${end.receivedBytes} bytes came`);
  }
  return faults;
}

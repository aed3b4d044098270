/** Two sides whose sessions outlive their links and processes, and the streams of patterns between them. */
import type { PatternEnd } from '../helpers/local-ends.js';
import { type PairOptions, SessionPair } from '../helpers/session-pair.js';
import { Traffic } from '../helpers/traffic.js';

const MEMORY_BYTES = 1_000_000;

export class ResumePair extends SessionPair {
  readonly traffic = new Traffic(this);

  /** Both are established with each other. */
  constructor(options: PairOptions = {}) {
    super({ memoryBytes: MEMORY_BYTES, ...options });
    for (const side of this.sides) side.onMoved = this.traffic.move.bind(this.traffic);
    this.establish();
  }

  /** Such a pair, of which `a` has opened a stream that `b` has accepted. */
  static withStream(options?: PairOptions): { readonly pair: ResumePair; readonly end: PatternEnd } {
    const pair = new ResumePair(options);
    const end = pair.traffic.open(pair.a);
    if (end === null) throw new Error('there is no session');
    pair.settle();
    return { pair, end };
  }

  /** Lets all streams end, and returns all faults, including ends of sessions. */
  finish(): string[] {
    this.settle();
    this.traffic.finishAll();
    this.settle();
    return [...this.traffic.faults(), ...this.ended];
  }

  /** The faults once all streams should have ended, in the only session there was. */
  leftovers(): string[] {
    const { traffic, ended, sides } = this;
    const faults = [...traffic.faults(), ...ended];
    for (const { name, session, sessions, loop } of sides) {
      if (sessions.length !== 1) faults.push(`${name} had ${sessions.length} sessions`);
      if (loop.session !== session) faults.push(`the session of ${name} has no link`);
      if (session.streams.size > 0) faults.push(`${session.streams.size} streams are left at ${name}`);
      if (session.unwrittenBytes > 0) faults.push(`${session.unwrittenBytes} bytes wait at ${name}`);
    }
    for (const [index, end] of traffic.ends.entries()) {
      if (!end.isOver) faults.push(`end ${index} does not end`);
      if (end.lentBuffers > 0) faults.push(`a buffer of end ${index} does not come back`);
    }
    return faults;
  }
}

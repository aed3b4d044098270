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

  /** Lets all streams end, and gives all that was wrong, with the ends of sessions. */
  finish(): string[] {
    this.settle();
    this.traffic.finishAll();
    this.settle();
    return [...this.traffic.faults(), ...this.ended];
  }
}

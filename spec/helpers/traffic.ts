/** Streams of patterns between the two sides of a pair, in any number, with a verdict at the end. */
import { PatternEnd } from './pattern-end.js';
import type { SessionPair, Side } from './session-pair.js';

/** Makes both sides of a pair accept what the other one opens. */
export class Traffic {
  readonly pair: SessionPair;
  readonly ends: PatternEnd[] = [];
  readonly #openers = new Map<string, PatternEnd>();

  constructor(pair: SessionPair) {
    this.pair = pair;
    for (const side of [pair.a, pair.b]) {
      side.onSession = (session) => {
        session.on('stream', (stream) => {
          const opener = this.#openers.get(stream.service);
          // A service of an earlier life of the pair cannot come up again: the session would have ended.
          if (opener === undefined || opener.other !== null) throw new Error(`unexpected OPEN of ${stream.service}`);
          const end = new PatternEnd(opener.seed ^ 1);
          end.other = opener;
          opener.other = end;
          end.stream = stream;
          this.ends.push(end);
          stream.attach(end);
          stream.accept();
        });
      };
    }
  }

  /** A new stream from one side, or null where it has no session or its session drains. */
  open(side: Side): PatternEnd | null {
    const { session } = side.loop;
    if (session === null || session.isDraining) return null;
    const end = new PatternEnd(2 * this.#openers.size);
    const service = `s${this.#openers.size}`;
    this.#openers.set(service, end);
    end.stream = session.open(service, null, end);
    this.ends.push(end);
    return end;
  }

  /** All that was found wrong. */
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

  /** Lets every stream go on and end. */
  finishAll(): void {
    for (const end of this.ends) {
      end.resume();
      end.finish();
    }
  }
}

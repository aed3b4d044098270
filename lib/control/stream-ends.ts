/** How the streams on connections of the control socket end, for their programs: a unix socket that is closed does not say it. */
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';

/** What is known of such a stream. */
export interface StreamEnd {
  /** `open`: one direction at least goes on; `ended`: both have ended in order; `reset`: it has failed. */
  readonly state: 'open' | 'ended' | 'reset';
  /** Why it was reset, else null. */
  readonly error: {
    /** A code of docs/errors.md, or a newer one that the peer sent. */
    readonly code: string;
    /** One line for people. */
    readonly message: string;
  } | null;
}

/** So many streams that have ended are known; each has at most some 1.5 KiB. */
export const KNOWN_ENDS = 1024;

/** The longest message, in characters. */
const MAX_MESSAGE = 512;

/** The open streams of a control server, and those that have ended last. */
export class StreamEnds {
  readonly #open = new Set<number>();
  /** The oldest first. */
  readonly #ended = new Map<number, StreamEnd>();
  #count = 0;

  /** Takes a stream up; gives its number, by which it is asked for. */
  add(): number {
    this.#count += 1;
    this.#open.add(this.#count);
    return this.#count;
  }

  /** A stream is over: in order, or for this reason. */
  end(id: number, reason: VproxyError | null): void {
    this.#open.delete(id);
    const error = reason && { code: escapeText(reason.code, 64), message: escapeText(reason.message, MAX_MESSAGE) };
    this.#ended.set(id, { state: error === null ? 'ended' : 'reset', error });
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > KNOWN_ENDS && oldest !== undefined) this.#ended.delete(oldest);
  }

  /** What is known of a stream. Throws `not-found`: there never was one of that number, or many others have ended since. */
  find(id: number): StreamEnd {
    const known = this.#open.has(id) ? OPEN : this.#ended.get(id);
    if (known !== undefined) return known;
    throw new VproxyError(
      'not-found',
      `how stream ${id} of the control socket has ended is not known, or not any more`,
    );
  }
}

const OPEN: StreamEnd = { state: 'open', error: null };

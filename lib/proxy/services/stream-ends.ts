/** How the streams of connections on the control socket ended, which the program cannot see on a closed unix socket. */
import { VproxyError } from '../../errors.js';
import type { StreamEnd } from '../../status/types.js';
import { escapeText } from '../../util/escape.js';

/** The number of ended streams remembered, at most about 1.5 KiB each. */
export const KNOWN_ENDS = 1024;

/** In characters. */
const MAX_MESSAGE = 512;

/** State of {@link StreamEnds} that is handed over. The open streams add themselves again. */
export interface StreamEndsState {
  readonly count: number;
  /** Oldest first. */
  readonly ended: ReadonlyMap<number, StreamEnd>;
}

/** The open streams of a control server, and the last ended ones. */
export class StreamEnds {
  readonly #open = new Set<number>();
  readonly #ended: Map<number, StreamEnd>;
  #count: number;

  constructor({ count, ended }: StreamEndsState = { count: 0, ended: new Map() }) {
    this.#count = count;
    this.#ended = new Map(ended);
  }

  get state(): StreamEndsState {
    return { count: this.#count, ended: this.#ended };
  }

  /** Adds a stream; returns the number that `find` takes. */
  add(): number {
    this.#count += 1;
    this.#open.add(this.#count);
    return this.#count;
  }

  /** Adds a stream that has been handed over under its number. */
  addAgain(id: number): void {
    this.#open.add(id);
  }

  /** Records the end of a stream; in order if `reason` is null. */
  end(id: number, reason: VproxyError | null): void {
    this.#open.delete(id);
    const error = reason && { code: escapeText(reason.code, 64), message: escapeText(reason.message, MAX_MESSAGE) };
    this.#ended.set(id, { state: error === null ? 'ended' : 'reset', error });
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > KNOWN_ENDS && oldest !== undefined) this.#ended.delete(oldest);
  }

  /** How a stream has ended. Throws `not-found` for an unknown number, or if many others have ended since. */
  find(id: number): StreamEnd {
    const known = this.#open.has(id) ? OPEN : this.#ended.get(id);
    if (known !== undefined) return known;
    throw new VproxyError('not-found', `stream ${id} of the control socket: unknown, or ended too long ago`);
  }
}

const OPEN: StreamEnd = { state: 'open', error: null };

/** A filter between a stream and its local end, for services that must not pass the peer's bytes unchanged. */

/** Transforms the input of one stream. */
export interface InputFilter {
  /** Input that it has returned nothing for yet, such as the beginning of a message. */
  readonly held: Buffer;
  /** Whether further input passes unchanged, and is not pushed. Default false. */
  readonly isDone?: boolean;
  /** Returns what the local end gets for the peer's bytes, which are lent for the call. An error ends the connection. */
  push(bytes: Buffer): Buffer;
  /** Returns what the local end gets before EOF. An error ends the connection. */
  end(): Buffer;
  /** This many of the returned bytes have left this process. */
  sent(byteCount: number): void;
  /** The connection is closed. */
  close(): void;
}

/** State of an {@link InputFilter} that is handed over. */
export interface FilterState {
  readonly held: Buffer;
  /** How many of the returned bytes have not left. */
  readonly unsentBytes: number;
}

/** Creates the filter for a new stream of a service, or with the state of another one; null if its bytes pass unchanged. */
export type InputFilters = (service: string, state?: FilterState) => InputFilter | null;

/** The same for a connection that the filter may end. */
export type ConnectionFilters = (
  service: string,
  state: FilterState | undefined,
  connection: FilteredConnection,
) => InputFilter | null;

/** The connection whose input passes a filter. */
export interface FilteredConnection {
  /** See `Caller`. */
  readonly destination: string | undefined;
  /** Ends both directions now. */
  reset(code: string, message: string): void;
}

/** Input, and the output that a filter made of it, in bytes. */
export interface Portion {
  inputBytes: number;
  outputBytes: number;
}

/** Portions of less output are joined, which bounds their number. */
const LEAST_PORTION_BYTES = 4096;

/** The input that unsent output was made of: credit for it is due when the output has left. */
export class Portions {
  readonly #portions: Portion[];

  constructor(portions: readonly Portion[] = []) {
    this.#portions = portions.map((portion) => ({ ...portion }));
  }

  get state(): readonly Portion[] {
    return this.#portions;
  }

  add(inputBytes: number, outputBytes: number): void {
    const last = this.#portions.at(-1);
    if (last === undefined || last.outputBytes >= LEAST_PORTION_BYTES) {
      this.#portions.push({ inputBytes, outputBytes });
      return;
    }
    last.inputBytes += inputBytes;
    last.outputBytes += outputBytes;
  }

  /** Takes the oldest output, which has left; returns how much input is done with. */
  markSent(outputBytes: number): number {
    let inputBytes = 0;
    let leftBytes = outputBytes;
    for (let first = this.#portions[0]; first !== undefined && leftBytes > 0; first = this.#portions[0]) {
      const bytes = Math.min(leftBytes, first.outputBytes);
      first.outputBytes -= bytes;
      leftBytes -= bytes;
      if (first.outputBytes > 0) break;
      inputBytes += first.inputBytes;
      this.#portions.shift();
    }
    // The rest has passed a filter that was done.
    return this.#portions.length === 0 ? inputBytes + leftBytes : inputBytes;
  }
}

/** The host's side of the service `freeze`: has the file systems of a machine frozen for as long as a stream lasts. */
import type { Duplex } from 'node:stream';
import { protocolError, toVproxyError, VproxyError } from '../../errors.js';
import type { Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import { readRecords } from '../read-records.js';
import {
  decodeFailed,
  decodeFrozen,
  decodeThawed,
  encodeFreezeRecord,
  FREEZE_KIND,
  type FreezeRequest,
  MAX_FREEZE_BYTES,
  type Thawed,
} from './freeze-messages.js';

/** Limit on the time for hooks and the freeze, in milliseconds. */
const ANSWER_MS = 100_000;

/** Limit on the time for the thaw and the hooks after it, in milliseconds. */
const THAW_MS = 60_000;

/** Frozen file systems of a peer. */
export class FreezeCall {
  /** Their mount points, in the order in which they were frozen. */
  readonly paths: readonly string[];
  readonly #stream: Duplex;
  readonly #clock: Clock;
  readonly #thawed: Promise<Thawed>;

  private constructor(stream: Duplex, clock: Clock, paths: readonly string[], thawed: Promise<Thawed>) {
    this.paths = paths;
    this.#stream = stream;
    this.#clock = clock;
    this.#thawed = thawed;
    // Nothing is left to ask for.
    const end = (): void => void stream.end();
    void thawed.then(end, end);
  }

  /**
   * Freezes; resolves when all is frozen. The call owns the stream. Rejects with `freeze-failed`, with `cancelled` if `signal` is
   * aborted before that, or with the error of the stream.
   */
  static async begin(
    stream: Duplex,
    request: FreezeRequest,
    { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
  ): Promise<FreezeCall> {
    stream.on('error', () => undefined);
    const cancel = endLater(stream, clock, ANSWER_MS);
    const giveUp = (): void => void stream.destroy(new VproxyError('cancelled', 'the request was cancelled'));
    signal.addEventListener('abort', giveUp);
    if (signal.aborted) giveUp();
    try {
      const records = readRecords(stream, { what: 'freeze', maxBytes: MAX_FREEZE_BYTES });
      stream.write(encodeFreezeRecord(FREEZE_KIND.FREEZE, request));
      const paths = decodeFrozen(await next(records, FREEZE_KIND.FROZEN));
      return new FreezeCall(stream, clock, paths, next(records, FREEZE_KIND.THAWED).then(decodeThawed));
    } catch (error) {
      const reason = toVproxyError(error);
      stream.destroy(reason);
      throw reason.code === 'unknown-service' ? new VproxyError(reason.code, NOT_ALLOWED, { cause: error }) : reason;
    } finally {
      cancel();
      signal.removeEventListener('abort', giveUp);
    }
  }

  /** Asks for the thaw, and resolves with when and why it happened. Rejects with the error of the stream. */
  async thaw(): Promise<Thawed> {
    const cancel = endLater(this.#stream, this.#clock, THAW_MS);
    this.#stream.end();
    return this.#thawed.finally(() => {
      cancel();
      this.#stream.destroy();
    });
  }
}

const NOT_ALLOWED = 'the peer does not let its file systems be frozen; start its vproxy with --allow-freeze';

const endLater = (stream: Duplex, clock: Clock, afterMs: number): (() => void) =>
  clock.schedule(afterMs, () => {
    stream.destroy(new VproxyError('stalled', `the peer did not answer within ${afterMs / 1000} s`));
  });

/** The payload of the next record of a kind; skips unknown kinds. Rejects with `freeze-failed` for FAILED. */
async function next(records: ReturnType<typeof readRecords>, kind: number): Promise<Buffer> {
  for (;;) {
    const { value, done } = await records.next();
    if (done === true) throw protocolError('freeze: the peer ended the stream without an answer');
    if (value.kind === kind) return value.payload;
    if (value.kind === FREEZE_KIND.FAILED)
      throw new VproxyError('freeze-failed', escapeText(decodeFailed(value.payload), 1024));
  }
}

/** The host's side of the service `clock`: tells a machine that offers it the time, again and again. */
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { type Clock, sleep } from '../../util/clock.js';
import { LoopTurns } from '../../util/concurrency.js';
import { readRecords, writeRecord } from '../read-records.js';
import {
  CLOCK_KIND,
  type ClockRequest,
  decodeClockRequest,
  ENTROPY_BYTES,
  encodeClockAnswer,
  MAX_CLOCK_BYTES,
} from './clock-messages.js';

/** How often a machine may ask, in milliseconds: it must notice a pause within some seconds. */
const EVERY_MS = 2000;

/** Limit on one stream, in milliseconds, and on its requests. */
const STREAM_MS = 10_000;
const MAX_REQUESTS = 16;

/** Identifies this process. */
const HOST = randomBytes(16).toString('hex');

interface ClockAnswersOptions {
  readonly clock: Clock;
  /** Whether nobody else can read the channel: otherwise random bytes are not sent. */
  readonly isSecret: boolean;
  /** Milliseconds since 1970. Default: the system's. */
  readonly timeOfDay?: () => number;
}

/** The answers on one channel. */
export class ClockAnswers {
  readonly #options: Required<ClockAnswersOptions>;
  readonly #turns = new LoopTurns();
  /** The last request. */
  #seen: Pick<ClockRequest, 'run' | 'seq'> | null = null;

  constructor(options: ClockAnswersOptions) {
    this.#options = { timeOfDay: Date.now, ...options };
  }

  /** Lets the peer ask over one stream after the other, which `open` opens, until `signal` is aborted. Never rejects. */
  async run(open: () => Duplex, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      // A peer that breaks the rules, or a session that drains, is tried again later.
      await this.#let(open, signal).catch(() => undefined);
      await sleep(clock, EVERY_MS, signal);
    }
  }

  async #let(open: () => Duplex, signal: AbortSignal): Promise<void> {
    const stream = open();
    const end = (): void => void stream.destroy();
    stream.on('error', () => undefined);
    const cancel = this.#options.clock.schedule(STREAM_MS, end);
    signal.addEventListener('abort', end);
    // A peer that does not end its direction keeps the stream no longer than that.
    stream.once('close', () => {
      signal.removeEventListener('abort', end);
      cancel();
    });
    await this.#answer(stream).catch(end);
  }

  async #answer(stream: Duplex): Promise<void> {
    let count = 0;
    for await (const { kind, payload } of readRecords(stream, {
      what: 'clock',
      maxBytes: MAX_CLOCK_BYTES,
      turns: this.#turns,
    })) {
      if (kind !== CLOCK_KIND.ASK) continue;
      count += 1;
      if (count > MAX_REQUESTS) break;
      await writeRecord(stream, this.#told(payload));
    }
    stream.resume().end();
  }

  #told(payload: Buffer): Buffer {
    const { run, seq, entropy } = decodeClockRequest(payload);
    const seen = this.#seen?.run === run ? this.#seen.seq : null;
    this.#seen = { run, seq };
    return encodeClockAnswer({
      timeMs: this.#options.timeOfDay(),
      upMs: this.#options.clock.now(),
      host: HOST,
      seen,
      entropy: entropy && this.#options.isSecret ? randomBytes(ENTROPY_BYTES) : null,
    });
  }
}

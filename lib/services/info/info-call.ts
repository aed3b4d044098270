/** The client side of the service `info`: validates the peer's answers. */
import type { Duplex } from 'node:stream';
import { protocolError, toVproxyError, VproxyError } from '../../errors.js';
import { bootStateSchema, machineSchema } from '../../status/machine-schemas.js';
import type { BootState, Machine, MachineInfo } from '../../status/types.js';
import type * as z from '../../status/zod.js';
import { encodeRecord } from '../../util/bytes/records.js';
import type { Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import { readRecords } from '../read-records.js';
import { decodeTime, decodeTold, encodeAsk, INFO_KIND, type InfoSubject, MAX_TOLD_BYTES } from './info-messages.js';

/** Options for {@link askMachine} and {@link askBoot}. */
export interface InfoCallOptions {
  /** Timeout for the whole answer, in milliseconds. Default 15,000. */
  readonly timeoutMs?: number;
  /** Cancels the call. */
  readonly signal?: AbortSignal;
  readonly clock: Clock;
  /** The time of day of this side, in milliseconds since 1970. Default: the system's. */
  readonly timeOfDay?: () => number;
}

/** A machine may need 5 s for systemctl, twice, and some for its disks. */
const ANSWER_MS = 15_000;

/** How often the peer's time of day is requested: the fastest answer counts. */
const CLOCK_SAMPLES = 5;

/**
 * Queries the machine of the peer at the other end of a stream to `info`, and measures its clock offset. The call owns the
 * stream. Rejects with `stalled` on a timeout, with `protocol-error` for an invalid answer, with `cancelled`, and with the
 * error of the stream.
 */
export function askMachine(stream: Duplex, options: InfoCallOptions): Promise<Machine & Pick<MachineInfo, 'clock'>> {
  return withStream(stream, options, async (call) => {
    const clock = await call.measureClock();
    return { ...(await call.ask('machine', machineSchema)), clock };
  });
}

/** Queries the boot progress of the peer's machine. Rejects as {@link askMachine}. */
export function askBoot(stream: Duplex, options: InfoCallOptions): Promise<BootState> {
  return withStream(stream, options, (call) => call.ask('boot', bootStateSchema));
}

async function withStream<T>(
  stream: Duplex,
  options: InfoCallOptions,
  work: (call: InfoCall) => Promise<T>,
): Promise<T> {
  const { timeoutMs = ANSWER_MS, signal, clock } = options;
  stream.on('error', () => undefined);
  const giveUp = () => stream.destroy(new VproxyError('cancelled', 'the request was cancelled'));
  const cancel = clock.schedule(timeoutMs, () => {
    stream.destroy(
      new VproxyError('stalled', `the peer sent no information about its machine within ${timeoutMs / 1000} s`),
    );
  });
  signal?.addEventListener('abort', giveUp);
  if (signal?.aborted === true) giveUp();
  try {
    const call = new InfoCall(stream, options);
    const value = await work(call);
    await call.end();
    endWithin(stream, clock);
    return value;
  } catch (error) {
    const reason = toVproxyError(error);
    stream.destroy(reason);
    throw reason.code === 'unknown-service' ? new VproxyError(reason.code, NOT_TOLD, { cause: error }) : reason;
  } finally {
    cancel();
    signal?.removeEventListener('abort', giveUp);
  }
}

/** How long the other side may take to end its direction, in milliseconds. */
const END_MS = 2000;

function endWithin(stream: Duplex, clock: Clock): void {
  stream.once(
    'close',
    clock.schedule(END_MS, () => stream.destroy()),
  );
  stream.end();
  // Only EOF is still expected.
  stream.resume();
}

/** The message if the peer does not offer `info`. */
const NOT_TOLD =
  'the peer does not report on its machine: it does not know this side as its host (use --info there), has --no-info, or is an older vproxy';

/** Requests on one stream, one at a time. */
class InfoCall {
  readonly #stream: Duplex;
  readonly #clock: Clock;
  readonly #timeOfDay: () => number;
  readonly #records: ReturnType<typeof readRecords>;

  constructor(stream: Duplex, { clock, timeOfDay = Date.now }: InfoCallOptions) {
    this.#stream = stream;
    this.#clock = clock;
    this.#timeOfDay = timeOfDay;
    this.#records = readRecords(stream, { what: 'info', maxBytes: MAX_TOLD_BYTES });
  }

  async ask<S extends z.ZodType>(about: InfoSubject, schema: S): Promise<z.output<S>> {
    const payload = await this.#exchange(encodeAsk(about), INFO_KIND.TOLD);
    const { data, error } = schema.safeParse(decodeTold(payload, about));
    if (error === undefined) return data;
    const [issue] = error.issues;
    const where = escapeText((issue?.path ?? []).join('.'), 80);
    const what = `info: invalid answer: ${where}: ${escapeText(issue?.message ?? '', 200)}`;
    throw protocolError(what);
  }

  /** Assumes, as NTP does, that the peer's time was read halfway through the round trip; the error is at most half of it. */
  async measureClock(): Promise<MachineInfo['clock']> {
    let best: MachineInfo['clock'] | null = null;
    for (let count = 0; count < CLOCK_SAMPLES; count += 1) {
      const [sentAtMs, sentAt] = [this.#clock.now(), this.#timeOfDay()];
      const timeMs = decodeTime(await this.#exchange(encodeRecord(INFO_KIND.TIME, ''), INFO_KIND.TIME_TOLD));
      const roundTripMs = this.#clock.now() - sentAtMs;
      const offsetMs = timeMs - (sentAt + roundTripMs / 2);
      if (best !== null && best.roundTripMs <= roundTripMs) continue;
      best = { offsetMs, uncertaintyMs: roundTripMs / 2 + RESOLUTION_MS, roundTripMs };
    }
    const { offsetMs = 0, uncertaintyMs = 0, roundTripMs = 0 } = best ?? {};
    return { offsetMs: round(offsetMs), uncertaintyMs: round(uncertaintyMs), roundTripMs: round(roundTripMs) };
  }

  /** Stops reading: the caller may use the stream again. */
  async end(): Promise<void> {
    await this.#records.return();
  }

  /** Sends a request and returns the payload of the answer of this kind; skips unknown kinds of a newer peer. */
  async #exchange(question: Buffer, kind: number): Promise<Buffer> {
    this.#stream.write(question);
    for (;;) {
      const next = await this.#records.next();
      if (next.done === true) throw protocolError('info: the peer ended the stream without an answer');
      if (next.value.kind === kind) return next.value.payload;
    }
  }
}

/** Both times of day are truncated to whole milliseconds: each is up to one behind. */
const RESOLUTION_MS = 1;

/** Rounds to a microsecond. */
const round = (ms: number): number => Math.round(ms * 1000) / 1000;

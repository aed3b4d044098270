/** The asker's side of the service `info`: what the peer answers is checked before anybody gets it. */
import type { Duplex } from 'node:stream';
import { toVproxyError, VproxyError } from '../errors.js';
import { bootStateSchema, machineSchema } from '../status/machine-schemas.js';
import type { BootState, Machine, MachineInfo } from '../status/types.js';
import type * as z from '../status/zod.js';
import { encodeRecord } from '../util/bytes/records.js';
import type { Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import {
  decodeTime,
  decodeTold,
  encodeAsk,
  INFO_KIND,
  type InfoSubject,
  MAX_TOLD_BYTES,
  readRecords,
} from './info-messages.js';

/** How a peer is asked. */
export interface InfoCallOptions {
  /** The time for the whole answer, in milliseconds. Default 15,000. */
  readonly timeoutMs?: number;
  /** Gives it up. */
  readonly signal?: AbortSignal;
  readonly clock: Clock;
  /** That of this side, in milliseconds since 1970. Default: the system's. */
  readonly timeOfDay?: () => number;
}

/** A machine may need 5 s for systemctl, twice, and some for its disks. */
const ANSWER_MS = 15_000;

/** The number of times that the peer's time of day is asked for: what came fastest counts. */
const CLOCK_SAMPLES = 5;

/**
 * What the peer at the other end of a stream to `info` says of its machine, and by how much its clock differs. The call owns the
 * stream. Rejects with `stalled` where it does not come in time, with `protocol-error` for an answer that is not valid, with
 * `cancelled`, and with what the stream fails with.
 */
export function askMachine(stream: Duplex, options: InfoCallOptions): Promise<Machine & Pick<MachineInfo, 'clock'>> {
  return withStream(stream, options, async (call) => {
    const clock = await call.measureClock();
    return { ...(await call.ask('machine', machineSchema)), clock };
  });
}

/** How far the peer's machine is with booting. As {@link askMachine}. */
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
  const giveUp = () => stream.destroy(new VproxyError('cancelled', 'the question was given up'));
  const cancel = clock.schedule(timeoutMs, () => {
    stream.destroy(new VproxyError('stalled', `the peer did not tell of its machine within ${timeoutMs / 1000} s`));
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

/** The time that the other side has to end its direction, in milliseconds. */
const END_MS = 2000;

function endWithin(stream: Duplex, clock: Clock): void {
  stream.once(
    'close',
    clock.schedule(END_MS, () => stream.destroy()),
  );
  stream.end();
  // Nothing but its end is still to come.
  stream.resume();
}

/** What is said where the peer offers no `info`. */
const NOT_TOLD =
  'the peer tells nothing of its machine: it does not know this side as its host (vproxy --info there), or has --no-info, or is an older vproxy';

/** Questions on one stream, one after the other. */
class InfoCall {
  readonly #stream: Duplex;
  readonly #clock: Clock;
  readonly #timeOfDay: () => number;
  readonly #records: ReturnType<typeof readRecords>;

  constructor(stream: Duplex, { clock, timeOfDay = Date.now }: InfoCallOptions) {
    this.#stream = stream;
    this.#clock = clock;
    this.#timeOfDay = timeOfDay;
    this.#records = readRecords(stream, MAX_TOLD_BYTES);
  }

  async ask<S extends z.ZodType>(about: InfoSubject, schema: S): Promise<z.output<S>> {
    const payload = await this.#exchange(encodeAsk(about), INFO_KIND.TOLD);
    const { data, error } = schema.safeParse(decodeTold(payload, about));
    if (error === undefined) return data;
    const [issue] = error.issues;
    const where = escapeText((issue?.path ?? []).join('.'), 80);
    const what = `info: what the peer says of its machine is not valid: ${where}: ${escapeText(issue?.message ?? '', 200)}`;
    throw new VproxyError('protocol-error', what);
  }

  /** The peer's time is taken for that of half the round trip: as NTP does it, and wrong by the other half at most. */
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

  /** Nothing more is asked: the stream is its owner's again. */
  async end(): Promise<void> {
    await this.#records.return();
  }

  /** The payload of the answer of this kind; kinds of a newer peer are passed over. */
  async #exchange(question: Buffer, kind: number): Promise<Buffer> {
    this.#stream.write(question);
    for (;;) {
      const next = await this.#records.next();
      if (next.done === true)
        throw new VproxyError('protocol-error', 'info: the peer ended the stream without an answer');
      if (next.value.kind === kind) return next.value.payload;
    }
  }
}

/** Both times of day are whole milliseconds, cut off: each is up to one behind. */
const RESOLUTION_MS = 1;

/** To a microsecond. */
const round = (ms: number): number => Math.round(ms * 1000) / 1000;

/** The rates of streams, from two samples of their counters. No sampling unless a client asks. */
import type { StreamStatus, StreamWithRates } from '../../status/types.js';
import type { Clock } from '../../util/clock.js';

/** The shortest time between two samples. */
const MIN_SPAN_MS = 200;

/** Older samples do not reflect the current rate. */
const MAX_SPAN_MS = 3000;

/** The counters of all streams at one moment. */
interface Sample {
  readonly atMs: number;
  readonly bytes: ReadonlyMap<string, { readonly sent: number; readonly received: number }>;
}

/** Computes rates; keeps the last two samples. */
export class StreamRates {
  readonly #list: () => StreamStatus[];
  readonly #clock: Clock;
  #samples: readonly Sample[] = [];
  #first: Promise<void> | null = null;

  constructor(list: () => StreamStatus[], clock: Clock) {
    this.#list = list;
    this.#clock = clock;
  }

  /** All streams. Takes 200 ms if the last request was more than 3 s ago. */
  async measure(): Promise<StreamWithRates[]> {
    const base = this.#base() ?? (await this.#takeFirst());
    const streams = this.#list();
    const nowMs = this.#clock.now();
    const [newest] = this.#samples;
    if (newest === undefined || nowMs - newest.atMs >= MIN_SPAN_MS) this.#remember(streams, nowMs);
    return streams.map((stream) => withRates(stream, base, nowMs - base.atMs));
  }

  /** The newest sample of a suitable age. */
  #base(): Sample | null {
    const nowMs = this.#clock.now();
    const isGood = ({ atMs }: Sample): boolean => nowMs - atMs >= MIN_SPAN_MS && nowMs - atMs <= MAX_SPAN_MS;
    return this.#samples.find(isGood) ?? null;
  }

  /** Takes a sample and waits 200 ms; requests in the meantime share it. */
  async #takeFirst(): Promise<Sample> {
    this.#first ??= new Promise((resolve) => {
      this.#samples = [];
      this.#remember(this.#list(), this.#clock.now());
      this.#clock.schedule(MIN_SPAN_MS, () => {
        this.#first = null;
        resolve();
      });
    });
    const sample = this.#samples[0];
    await this.#first;
    return sample as Sample;
  }

  #remember(streams: readonly StreamStatus[], atMs: number): void {
    const bytes = new Map(
      streams.map((stream) => [keyOf(stream), { sent: stream.sentBytes, received: stream.receivedBytes }]),
    );
    this.#samples = [{ atMs, bytes }, ...this.#samples].slice(0, 2);
  }
}

const keyOf = ({ channel, id }: StreamStatus): string => `${channel}/${id}`;

function withRates(stream: StreamStatus, base: Sample, spanMs: number): StreamWithRates {
  // A stream younger than the sample may have reused the number of a stream of an earlier session.
  const isNew = stream.ageMs < spanMs;
  const before = (isNew ? null : base.bytes.get(keyOf(stream))) ?? { sent: 0, received: 0 };
  const seconds = Math.max(1, Math.min(stream.ageMs, spanMs)) / 1000;
  return {
    ...stream,
    sendRate: Math.max(0, Math.round((stream.sentBytes - before.sent) / seconds)),
    receiveRate: Math.max(0, Math.round((stream.receivedBytes - before.received) / seconds)),
  };
}

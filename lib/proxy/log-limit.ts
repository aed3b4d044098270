/** Keeps what peers and local programs can cause, again and again, from filling the log. */
import { TokenBucket } from '../session/token-bucket.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import type { Log, LogEvent, LogLevel } from '../util/log-event.js';

/** Lines of one event: so many at once, and so many a second in the long run. */
const BURST_LINES = 100;
const LINES_PER_SECOND = 10;

/** How long lines are left out before it is said how many they were. */
const TELL_AFTER_MS = 1000;

/** The events whose number others decide about. Debug lines are never left out: somebody asked for all of them. */
const LIMITED = /^(?:accept|channel|exec|session|stream)-/;

/** What is known of one event. */
interface Flow {
  readonly name: string;
  readonly level: LogLevel;
  readonly bucket: TokenBucket;
  leftOutCount: number;
  cancelTelling: CancelTimer | null;
}

/** Hands log events on, except for those of an event that comes too often; a line a second says how many were left out. */
export class LogLimit {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #flows = new Map<string, Flow>();

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  /** Logs an event, or counts it. */
  log(event: LogEvent): void {
    if (event.level === 'debug' || !LIMITED.test(event.event)) {
      this.#log(event);
      return;
    }
    const flow = this.#flowOf(event);
    if (flow.bucket.take(this.#clock.now())) {
      this.#log(event);
      return;
    }
    flow.leftOutCount += 1;
    flow.cancelTelling ??= this.#clock.schedule(TELL_AFTER_MS, () => this.#tell(flow));
  }

  /** Says now what was left out and not told yet. */
  stop(): void {
    for (const flow of this.#flows.values()) if (flow.cancelTelling !== null) this.#tell(flow);
  }

  #flowOf({ event: name, level }: LogEvent): Flow {
    const known = this.#flows.get(name);
    if (known !== undefined) return known;
    const bucket = new TokenBucket(LINES_PER_SECOND, BURST_LINES, this.#clock.now());
    const flow = { name, level, bucket, leftOutCount: 0, cancelTelling: null };
    this.#flows.set(name, flow);
    return flow;
  }

  #tell(flow: Flow): void {
    const count = flow.leftOutCount;
    flow.cancelTelling?.();
    flow.cancelTelling = null;
    flow.leftOutCount = 0;
    const { name, level } = flow;
    const message = `${count} more lines of the kind ${name} were left out: they came too fast`;
    this.#log({ level, event: 'log-limited', message, fields: { event: name, count } });
  }
}

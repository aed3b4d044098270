/** Two sessions in memory that leave nothing open: streams that come and go in every way, PINGs, restarts. */
import test from 'ava';
import type { LocalEnd } from '../../lib/session/local-end.js';
import type { Session } from '../../lib/session/session.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { SessionPair, type Side } from '../helpers/session-pair.js';
import { assertFlat } from './growth.js';

/** What happens to a stream, by its service. Neither side offers `unknown`. */
const WAYS = ['echo', 'echo', 'unread', 'unknown', 'refuse', 'opener-resets', 'target-resets', 'target-stops'] as const;

const BATCH = 40;

const MESSAGE = Buffer.alloc(200, 0x5a);

/** Both ends of streams; the counts say whether all of them ended. */
export class SessionLoad {
  readonly pair = new SessionPair({ integrity: 'full', limits: { frame: 4096 } });
  #openEnds = 0;
  #opened = 0;

  constructor() {
    for (const { side } of this.#sides()) side.onSession = (session) => this.#serve(session);
    this.pair.establish();
  }

  open(count: number): void {
    for (let left = count; left > 0; left -= BATCH) {
      for (let index = 0; index < Math.min(BATCH, left); index += 1) this.#open();
      this.pair.settle();
      this.#requireNoneLeft();
    }
  }

  /** Lets time pass until `count` PINGs were sent and answered, from both sides. */
  ping(count: number): void {
    for (let seen = 0; seen < count; ) {
      this.pair.clock.advance(2500);
      seen += this.#sides().filter(({ side }) => side.outbound.totalBytes > 0).length;
      this.pair.settle();
    }
  }

  /** Kills and restarts one side, `count` times, in turn, with streams open in every state. */
  restart(count: number): void {
    for (let done = 0; done < count; done += 1) {
      for (let index = 0; index < WAYS.length; index += 1) this.#open();
      for (let step = 0; step < done % 4; step += 1) this.pair.step(300);
      const { side, other } = this.#sides()[done % 2] as { side: Side; other: Side };
      const sessions = [side.loop.session, other.loop.session];
      side.restart();
      for (;;) {
        this.pair.settle();
        if ([side, other].every(({ loop }) => loop.session !== null && !sessions.includes(loop.session))) break;
        this.pair.clock.advance(500);
      }
      this.#requireNoneLeft();
      for (const { sessions: past, endings } of [side, other]) {
        past.length = 0;
        endings.length = 0;
      }
    }
  }

  /** Pending timers, and bytes that the windows of streams have taken beyond their first credit. */
  get held(): { readonly timers: number; readonly budgetBytes: number } {
    const { a, b, clock } = this.pair;
    return {
      timers: clock.pending,
      budgetBytes: a.settings.receiveBudget.usedBytes + b.settings.receiveBudget.usedBytes,
    };
  }

  #sides(): { readonly side: Side; readonly other: Side }[] {
    const { a, b } = this.pair;
    return [
      { side: a, other: b },
      { side: b, other: a },
    ];
  }

  #open(): void {
    this.#opened += 1;
    const { session } = this.#opened % 2 === 0 ? this.pair.a : this.pair.b;
    const way = WAYS[(this.#opened >> 1) % WAYS.length] ?? 'echo';
    const end = new End(way, (bytes) => this.#count(bytes));
    end.stream = session.open(way, '127.0.0.1:50000', end);
    end.stream.send(Buffer.from(MESSAGE), 0, MESSAGE.length, false);
    end.stream.finish();
  }

  #serve(session: Session): void {
    session.on('stream', (stream) => {
      const way = WAYS.find((name) => name === stream.service);
      if (way === undefined || way === 'unknown') return;
      const end = new End(way, (bytes) => this.#count(bytes));
      end.stream = stream;
      stream.attach(end);
      if (way === 'refuse') stream.refuse('denied', 'this service is refused');
      else stream.accept();
      if (way !== 'target-stops') return;
      stream.stop('local-error', 'the target reads no more');
      stream.finish();
    });
  }

  #count(ends: number): void {
    this.#openEnds += ends;
  }

  #requireNoneLeft(): void {
    if (this.#openEnds !== 0) throw new Error(`${this.#openEnds} ends of streams are left`);
    for (const { side } of this.#sides()) {
      if (side.session.streams.size !== 0)
        throw new Error(`${side.session.streams.size} streams are left at ${side.name}`);
    }
  }
}

/** One end of a stream: echoes where it is the target, and does what the way of the stream says. */
class End implements LocalEnd {
  stream: SessionStream | null = null;
  readonly #way: (typeof WAYS)[number];
  readonly #count: (ends: number) => void;
  #held: Buffer | null = null;

  constructor(way: (typeof WAYS)[number], count: (ends: number) => void) {
    this.#way = way;
    this.#count = count;
    count(1);
  }

  handleAccept(): void {
    if (this.#way === 'opener-resets') this.stream?.reset('cancelled', 'the opener gives up');
  }

  handleData(bytes: Buffer): boolean {
    const { stream } = this;
    if (stream === null) return false;
    if (this.#way === 'target-resets') stream.reset('local-error', 'the target failed');
    if (this.#way === 'unread') {
      // Kept until the end, as by a local socket that takes nothing.
      this.#held = bytes;
      return true;
    }
    stream.release(bytes.length);
    if (stream.isIncoming && !stream.isWaiting) stream.send(Buffer.from(bytes), 0, bytes.length, false);
    return false;
  }

  handleFin(): void {
    if (this.#held !== null) this.stream?.release(this.#held.length);
    this.stream?.finish();
  }

  handleStop(): void {
    this.stream?.finish();
  }

  handleSent(): void {
    // Each end sends once.
  }

  handleEnd(): void {
    this.#count(-1);
  }
}

/**
 * The number of each operation, and the growth in bytes of each that counts as a leak: fewer operations measure less
 * exactly.
 */
export interface SessionScale {
  readonly opens: number;
  readonly pings: number;
  readonly restarts: number;
  readonly limitBytes: number;
  readonly restartLimitBytes: number;
}

const KINDS = {
  opens: (load: SessionLoad) => (count: number) => load.open(count),
  pings: (load: SessionLoad) => (count: number) => load.ping(count),
  restarts: (load: SessionLoad) => (count: number) => load.restart(count),
} as const;

export function testSessions(scale: SessionScale): void {
  for (const name of ['opens', 'pings', 'restarts'] as const) {
    const operations = scale[name];
    test.serial(`${operations.toLocaleString('en')} ${name} in memory leave nothing behind`, async (t) => {
      const load = new SessionLoad();
      const run = KINDS[name](load);
      run(WARM_UP);
      const before = load.held;
      const limitBytes = name === 'restarts' ? scale.restartLimitBytes : scale.limitBytes;
      await assertFlat(t, { name, operations, run, limitBytes });
      t.deepEqual(load.held, before);
    });
  }
}

/** The number after which all permanent timers exist: an even number, because the sides take turns. */
const WARM_UP = 10;

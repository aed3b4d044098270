/** Two sessions in memory that leave nothing open: streams that open and close in every way, PINGs, restarts. */
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

/** Both ends of streams, with counts that show whether all of them ended. */
class SessionLoad {
  readonly pair = new SessionPair({ integrity: 'full', limits: { frame: 4096 } });
  readonly #sides = [this.pair.a, this.pair.b] as const;
  #openEnds = 0;
  #opened = 0;

  constructor() {
    for (const side of this.#sides) side.onSession = (session) => this.#serve(session);
    this.pair.establish();
  }

  opens(count: number): void {
    for (let left = count; left > 0; left -= BATCH) {
      for (let index = 0; index < Math.min(BATCH, left); index += 1) this.#open();
      this.pair.settle();
      this.#requireNoneLeft();
    }
  }

  /** Advances the clock until both sides have sent this many PINGs and got answers. */
  pings(count: number): void {
    for (let seen = 0; seen < count; ) {
      this.pair.clock.advance(2500);
      seen += this.#sides.filter(({ outbound }) => outbound.totalBytes > 0).length;
      this.pair.settle();
    }
  }

  /** Kills and restarts one side, in turn, with streams open in every state. */
  restarts(count: number): void {
    for (let done = 0; done < count; done += 1) {
      for (let index = 0; index < WAYS.length; index += 1) this.#open();
      for (let step = 0; step < done % 4; step += 1) this.pair.step(300);
      const before = new Set(this.#sides.map(({ loop }) => loop.session));
      (this.#sides[done % 2] as Side).restart();
      for (;;) {
        this.pair.settle();
        if (this.#sides.every(({ loop }) => loop.session !== null && !before.has(loop.session))) break;
        this.pair.clock.advance(500);
      }
      this.#requireNoneLeft();
      for (const { sessions, endings } of this.#sides) for (const past of [sessions, endings]) past.length = 0;
    }
  }

  /** Pending timers, and bytes by which the windows of streams exceed their first credit. */
  get held(): { readonly timers: number; readonly budgetBytes: number } {
    const budgetBytes = this.#sides.reduce((sum, { settings }) => sum + settings.receiveBudget.usedBytes, 0);
    return { timers: this.pair.clock.pending, budgetBytes };
  }

  #open(): void {
    this.#opened += 1;
    const { session } = this.#sides[this.#opened % 2] as Side;
    const way = WAYS[(this.#opened >> 1) % WAYS.length] ?? 'echo';
    const end = this.#end(way);
    end.stream = session.open(way, '127.0.0.1:50000', end);
    end.stream.send(Buffer.from(MESSAGE), 0, MESSAGE.length, false);
    end.stream.finish();
  }

  #serve(session: Session): void {
    session.server = {
      serve: (stream) => {
        const way = WAYS.find((name) => name === stream.service);
        if (way === undefined || way === 'unknown') return;
        const end = this.#end(way);
        end.stream = stream;
        stream.attach(end);
        if (way === 'refuse') stream.refuse('denied', 'this service is refused');
        else stream.accept();
        if (way !== 'target-stops') return;
        stream.stop('local-error', 'the target reads no more');
        stream.finish();
      },
    };
  }

  #end(way: Way): End {
    this.#openEnds += 1;
    return new End(way, () => (this.#openEnds -= 1));
  }

  #requireNoneLeft(): void {
    const streams = this.#sides.map(({ session }) => session.streams.size);
    if (this.#openEnds + Math.max(...streams) === 0) return;
    throw new Error(`${this.#openEnds} ends of streams are left, and ${streams.join(' and ')} streams`);
  }
}

type Way = (typeof WAYS)[number];

/** One end of a stream: echoes if it is the target, and behaves as the service of the stream requires. */
class End implements LocalEnd {
  stream: SessionStream | null = null;
  readonly handleEnd: () => void;
  readonly #way: Way;
  #held: Buffer | null = null;

  constructor(way: Way, onEnd: () => void) {
    this.#way = way;
    this.handleEnd = onEnd;
  }

  handleAccept(): void {
    if (this.#way === 'opener-resets') this.stream?.reset('cancelled', 'the opener gives up');
  }

  handleData(bytes: Buffer): boolean {
    const { stream } = this;
    if (stream === null) return false;
    if (this.#way === 'target-resets') stream.reset('local-error', 'the target failed');
    if (this.#way === 'unread') {
      // Kept until the end, as by a stuck local socket.
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
}

/**
 * The number of each operation, and the growth in bytes per operation that counts as a leak: fewer operations are less
 * accurate.
 */
interface SessionScale {
  readonly opens: number;
  readonly pings: number;
  readonly restarts: number;
  readonly limitBytes: number;
  readonly restartLimitBytes: number;
}

/** The number of operations after which all permanent timers exist; even, because the sides take turns. */
const WARM_UP = 10;

export function testSessions(scale: SessionScale): void {
  for (const name of ['opens', 'pings', 'restarts'] as const) {
    const operations = scale[name];
    test.serial(`${operations.toLocaleString('en')} ${name} in memory leave nothing behind`, async (t) => {
      const load = new SessionLoad();
      load[name](WARM_UP);
      const before = load.held;
      const limitBytes = name === 'restarts' ? scale.restartLimitBytes : scale.limitBytes;
      await assertFlat(t, { name, operations, run: (count) => load[name](count), limitBytes });
      t.deepEqual(load.held, before);
    });
  }
}

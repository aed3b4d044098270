/** A port that loses wake-ups: what one side writes stays in its kernel, or with its program, until a byte comes from the other. */
import { randomBytes } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { RecordingSink } from '../helpers/local-ends.js';
import { carry, type PairOptions, SessionPair, type Side } from '../helpers/session-pair.js';

/** The longest time that bytes may wait in a port, in milliseconds. */
const RECOVERY_MS = 5000;
const STEP_MS = 50;

class SleepyPort {
  readonly pair: SessionPair;
  readonly sleeper: Side;
  readonly waker: Side;
  #isAwake = false;

  constructor(sleeper: 'a' | 'b', options?: PairOptions) {
    this.pair = new SessionPair(options);
    const { a, b } = this.pair;
    [this.sleeper, this.waker] = sleeper === 'a' ? [a, b] : [b, a];
    this.waker.tap = (bytes) => void (this.#isAwake ||= bytes.length > 0);
  }

  /** Carries on until `isDone`; the time that it took. */
  run(isDone: () => boolean, limitMs = 60_000): number {
    for (let ms = 0; ; ms += STEP_MS) {
      while (this.#step());
      if (isDone() || ms >= limitMs) return ms;
      this.pair.clock.advance(STEP_MS);
    }
  }

  #step(): boolean {
    const { outbound } = this.sleeper;
    // Once awake it takes all that there is, and sleeps again.
    this.#isAwake &&= outbound.totalBytes > 0;
    outbound.isStalled = !this.#isAwake;
    const forth = carry(this.sleeper, this.waker, 65_536);
    return carry(this.waker, this.sleeper, 65_536) || forth;
  }
}

const isReady = ({ pair }: SleepyPort) => pair.sides.every((side) => side.loop.session?.wasEstablished === true);

function established(t: ExecutionContext, sleeper: 'a' | 'b', options?: PairOptions): SleepyPort {
  const port = new SleepyPort(sleeper, options);
  port.pair.start();
  t.true(port.run(() => isReady(port)) <= RECOVERY_MS);
  return port;
}

for (const sleeper of ['a', 'b'] as const) {
  for (const [what, capacityBytes] of [
    ['is taken by the kernel', 2 ** 20],
    ['does not complete', 100],
  ] as const) {
    test(`what side ${sleeper} writes after any silence arrives within 5 s if the write ${what}`, (t) => {
      let longest = 0;
      for (let silenceMs = 0; silenceMs <= 12_000; silenceMs += 500) {
        const port = established(t, sleeper, { capacityBytes });
        const got = new RecordingSink();
        port.waker.session.server = {
          serve: (stream) => {
            stream.attach(got);
            stream.accept();
          },
        };
        port.run(() => false, silenceMs);
        const bytes = randomBytes(5000);
        port.sleeper.session.open('sink', null, new RecordingSink()).send(bytes, 0, bytes.length, false);
        const ms = port.run(() => got.bytes.length >= bytes.length);
        longest = Math.max(longest, ms);
        t.deepEqual([got.bytes.equals(bytes), port.pair.ended], [true, []], `after ${silenceMs} ms`);
      }
      t.true(longest <= RECOVERY_MS, `${longest} ms`);
    });
  }
}

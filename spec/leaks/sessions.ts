/** The tests of two sessions in memory, for a number of operations that the caller chooses. */
import test from 'ava';
import { assertFlat } from './growth.js';
import { SessionLoad } from './session-load.js';

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

/** Registers a test for each kind of operation. */
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

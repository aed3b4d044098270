/** The tests of two sessions in memory, for as many operations as the caller has time for. */
import test from 'ava';
import { assertFlat } from './growth.js';
import { SessionLoad } from './session-load.js';

/** How many of each, and from how many bytes of each on it counts as a leak: fewer operations measure less exactly. */
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

/** So many make all timers that always wait: an even number, because the sides take turns. */
const WARM_UP = 10;

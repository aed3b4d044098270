/** The tests of two proxies over a real socket, for a number of operations that the caller chooses. */
import test from 'ava';
import { heapBytes } from '../helpers/measures.js';
import { assertFlat } from './growth.js';
import { ProxyLoad } from './proxy-load.js';
import { assertGivenBack, heldResources } from './resources.js';

/** The number of each operation, and the growth in bytes of each that counts as a leak. */
export interface ProxyScale {
  readonly connections: number;
  readonly changes: number;
  readonly restarts: number;
  readonly limitBytes: number;
  readonly restartLimitBytes: number;
  /** Streams open at once. */
  readonly streams: number;
}

/** Registers a test for each kind of operation. */
export function testProxies({ connections, changes, restarts, streams, ...limits }: ProxyScale): void {
  const number = (value: number): string => value.toLocaleString('en');

  for (const [what, operations, warmUp, limitBytes] of [
    ['connect', connections, WARM_UP, limits.limitBytes],
    ['change', changes, WARM_UP, limits.restartLimitBytes],
    ['restart', restarts, WARM_UP / 10, limits.restartLimitBytes],
  ] as const) {
    test.serial(`${number(operations)} ${WHAT[what]} leave nothing behind`, async (t) => {
      const load = await ProxyLoad.start(t);
      await load[what](warmUp);
      const before = heldResources();
      await assertFlat(t, { name: WHAT[what], operations, run: (count) => load[what](count), limitBytes });
      await assertGivenBack(t, before);
    });
  }

  test.serial(`${number(streams)} streams at once, opened and closed, leave nothing behind`, async (t) => {
    const load = await ProxyLoad.start(t);
    await load.connect(WARM_UP);
    const before = heldResources();
    const emptyBytes: number[] = [await heapBytes()];
    for (let wave = 1; wave <= WAVES; wave += 1) {
      const peakBytes = await load.openAtOnce(streams, heapBytes);
      emptyBytes.push(await heapBytes());
      const each = (peakBytes - (emptyBytes[wave - 1] ?? 0)) / streams;
      const heaps = [emptyBytes[wave - 1], peakBytes, emptyBytes[wave]].map((bytes) => ((bytes ?? 0) / 1e6).toFixed(2));
      t.log(
        `${number(streams)} streams: heap ${heaps.join(' → ')} MB (none, all, none), ${each.toFixed(0)} bytes each`,
      );
      t.true(each > 0);
    }
    // The first wave makes tables and pools as large as they need to be; the later ones may not add to them.
    const grownBytes = ((emptyBytes.at(-1) ?? 0) - (emptyBytes[1] ?? 0)) / (WAVES - 1);
    t.log(`${number(streams)} streams: ${(grownBytes / streams).toFixed(2)} bytes are left of each by a later wave`);
    t.true(grownBytes / streams < limits.limitBytes, `${grownBytes} bytes are left by a wave`);
    await assertGivenBack(t, before);
  });
}

const WHAT = {
  connect: 'connections through two proxies',
  change: 'forwards and channels that are added and removed',
  restart: 'restarts of the session of two proxies',
};

const WARM_UP = 100;
const WAVES = 3;

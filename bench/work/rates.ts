/** Bulk in one direction: its rate, its cost to the proxies, and the load's share of the machine's work. */
import { formatCount } from '../../lib/util/units.js';
import type { Direction } from '../load/rate.js';
import { cpuSecondsOf } from '../process/tree.js';
import { pidsOf, type Work, type WorkContext } from './work.js';

/** Up and down, over 1, 8 and 64 streams. */
export const rates: readonly Work[] = (['up', 'down'] as const).flatMap((direction) =>
  [1, 8, 64].map((streams) => rate(direction, streams)),
);

function rate(direction: Direction, streams: number): Work {
  const what = `${direction}, ${formatCount(streams, 'stream')}`;
  return {
    id: `${direction}-${streams}`,
    rows: () => [
      { key: 'cpu', title: `CPU of both sides, ${what}`, unit: 's/GB', part: 'cpu' },
      { key: 'rate', title: what, unit: 'MB/s' },
      { key: 'loadShare', title: `  the load's share of all CPU`, unit: '%' },
    ],
    async measure(context) {
      const { load, running, amounts } = context;
      const bytes = Math.ceil(amounts.bytes / streams);
      const before = cpuSeconds(context);
      const figures = await load.run({ kind: 'rate', address: running.address, direction, streams, bytes });
      // The connections are still open: the time of processes that exit with their connection could no longer be read.
      const after = cpuSeconds(context);
      await load.run({ kind: 'release' });
      const proxies = after.proxies - before.proxies;
      const ofLoad = after.load - before.load;
      const hasProxies = running.near.length > 0;
      return {
        rate: figures['rate'] ?? Number.NaN,
        ...(hasProxies ? { cpu: proxies / ((streams * bytes) / 1e9) } : {}),
        loadShare: (100 * ofLoad) / (ofLoad + proxies),
      };
    },
  };
}

function cpuSeconds({ running, load, target }: WorkContext): { readonly proxies: number; readonly load: number } {
  return {
    proxies: cpuSecondsOf(pidsOf([...running.near, ...running.far])),
    load: load.cpuSeconds + cpuSecondsOf([target.pid]),
  };
}

/** Bulk in one direction, and small messages: the rate, the cost to the proxies, and the load's share of the machine's work. */
import { formatCount } from '../../../lib/util/units.js';
import type { Transfer } from '../load/held.js';
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
    measure: (context) =>
      measureTransfer(context, { direction, streams, bytes: Math.ceil(context.amounts.bytes / streams) }),
  };
}

const MESSAGE_BYTES = 1024;

/** Messages one way, each in a write of the load. */
export const messages: Work = {
  id: 'messages',
  rows: () => [
    { key: 'perSecond', title: 'messages of 1 KiB up, 1 stream', unit: '/s' },
    { key: 'cpuEach', title: '  CPU of both sides', unit: 'µs each' },
  ],
  async measure(context) {
    const bytes = Math.ceil(context.amounts.bytes / 4);
    const transfer = { direction: 'up', streams: 1, bytes, writtenBytes: MESSAGE_BYTES } as const;
    const { rate, cpu } = await measureTransfer(context, transfer);
    return {
      perSecond: (1e6 * rate) / MESSAGE_BYTES,
      // Seconds for each GB are nanoseconds for each byte.
      ...(cpu !== undefined && { cpuEach: (cpu * MESSAGE_BYTES) / 1000 }),
    };
  },
};

type RateOutcomes = Readonly<Record<'rate' | 'loadShare', number>> & { readonly cpu?: number };

async function measureTransfer(context: WorkContext, transfer: Transfer): Promise<RateOutcomes> {
  const { load, running } = context;
  const before = cpuSeconds(context);
  const figures = await load.run({ kind: 'rate', address: running.address, ...transfer });
  // The connections are still open: the time of processes that exit with their connection could no longer be read.
  const after = cpuSeconds(context);
  await load.run({ kind: 'release' });
  const proxies = after.proxies - before.proxies;
  const ofLoad = after.load - before.load;
  return {
    rate: figures['rate'] ?? Number.NaN,
    ...(running.near.length > 0 && { cpu: proxies / ((transfer.streams * transfer.bytes) / 1e9) }),
    loadShare: (100 * ofLoad) / (ofLoad + proxies),
  };
}

function cpuSeconds({ running, load, target }: WorkContext): { readonly proxies: number; readonly load: number } {
  return {
    proxies: cpuSecondsOf(pidsOf([...running.near, ...running.far])),
    load: load.cpuSeconds + cpuSecondsOf([target.pid]),
  };
}

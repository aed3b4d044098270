/** The warm-up of every contender: some of each kind of work, for compilers and allocators. */
import type { LoadClient } from '../load/load-client.js';
import type { Amounts } from '../work/work.js';

/** Warms a running contender up. */
export async function warmUp(address: number, load: LoadClient, amounts: Amounts): Promise<void> {
  for (const streams of [1, 8]) {
    for (const direction of ['up', 'down'] as const) {
      await load.run({ kind: 'rate', address, direction, streams, bytes: Math.ceil(amounts.bytes / 4 / streams) });
      await load.run({ kind: 'release' });
    }
  }
  await load.run({ kind: 'echo', address, bytes: 1, messages: amounts.echoes });
  await load.run({ kind: 'connections', address, count: Math.ceil(amounts.connections / 4), parallel: 16 });
}

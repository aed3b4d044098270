/** Short connections: connect, one byte there and back, close. */
import type { Work } from './work.js';

/** One at a time, and 16 at a time. */
export const connections: readonly Work[] = [1, 16].map((parallel) => ({
  id: `connections-${parallel}`,
  rows: () => [{ key: 'rate', title: `connections, ${parallel} at a time`, unit: '/s' }],
  async measure({ load, running, amounts }) {
    const { address } = running;
    const figures = await load.run({ kind: 'connections', address, count: amounts.connections, parallel });
    return { rate: figures['perSecond'] ?? Number.NaN };
  },
}));

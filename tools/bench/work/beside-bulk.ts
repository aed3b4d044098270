/**
 * A one-byte echo beside 8 bulk streams, all up. The echo has a separate process, so that the event loop of the bulk's process
 * does not affect its time; the far end of both is one process.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Work } from './work.js';

const BULK_STREAMS = 8;
/** The time until every buffer on the way is full, so that the write rate equals the receive rate. */
const RAMP_MS = 500;

/** The echo's times, and the rate of the bulk meanwhile. */
export const besideBulk: Work = {
  id: 'beside-bulk',
  rows: () => [
    { key: 'p50', title: `echo next to ${BULK_STREAMS} bulk streams up, p50`, unit: 'µs' },
    { key: 'p99', title: '  p99', unit: 'µs' },
    { key: 'rate', title: '  bulk rate meanwhile', unit: 'MB/s' },
  ],
  async measure({ load, secondLoad, running, amounts }) {
    const { address } = running;
    await load.run({ kind: 'start-bulk', address, direction: 'up', streams: BULK_STREAMS });
    try {
      await delay(RAMP_MS);
      const before = await load.run({ kind: 'count-bulk' });
      const forMs = amounts.besideMs;
      const { p50, p99 } = await secondLoad.run({ kind: 'echo', address, bytes: 1, messages: Infinity, forMs });
      const after = await load.run({ kind: 'count-bulk' });
      const change = (key: string): number => (after[key] ?? Number.NaN) - (before[key] ?? Number.NaN);
      return { p50: p50 ?? Number.NaN, p99: p99 ?? Number.NaN, rate: change('bytes') / change('atMs') / 1000 };
    } finally {
      await load.run({ kind: 'release' });
    }
  },
};

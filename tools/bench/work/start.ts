/** The time from starting both processes until a byte has made the round trip. */
import { stopSides, type Work } from './work.js';

export const start: Work = {
  id: 'start',
  rows: () => [{ key: 'ms', title: 'from start to the first byte back', unit: 'ms', part: 'start' }],
  async measure({ running, startFresh }) {
    if (running.near.length === 0) return {};
    const startedAt = performance.now();
    const fresh = await startFresh();
    const ms = performance.now() - startedAt;
    await stopSides(fresh);
    return { ms };
  },
};

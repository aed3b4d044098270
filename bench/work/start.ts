/** How long it takes from starting both processes until a byte has been there and back. */
import type { Work } from './work.js';

export const start: Work = {
  id: 'start',
  rows: () => [{ key: 'ms', title: 'start until the first echo', unit: 'ms' }],
  async measure({ running, startFresh }) {
    if (running.near.length === 0) return {};
    const startedAt = performance.now();
    const fresh = await startFresh();
    const ms = performance.now() - startedAt;
    await Promise.all([...fresh.near, ...fresh.far].map((program) => program.stop()));
    return { ms };
  },
};

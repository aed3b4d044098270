/** The memory of a side that has carried a byte and is left alone, children included: the mean of both sides. */
import { setTimeout as delay } from 'node:timers/promises';
import { memoryOf } from '../process/tree.js';
import { pidsOf, stopSides, type Work } from './work.js';

export const rest: Work = {
  id: 'rest',
  isSlow: true,
  rows: () => [
    { key: 'resident', title: 'memory at rest, per side', unit: 'MB', part: 'memory' },
    { key: 'private', title: '  of that, private', unit: 'MB', part: 'memory' },
  ],
  async measure({ running, amounts, startFresh }) {
    if (running.near.length === 0) return {};
    const fresh = await startFresh();
    try {
      await delay(amounts.restMs);
      const [near, far] = [memoryOf(pidsOf(fresh.near)), memoryOf(pidsOf(fresh.far))];
      return {
        resident: (near.residentBytes + far.residentBytes) / 2e6,
        private: (near.privateBytes + far.privateBytes) / 2e6,
      };
    } finally {
      await stopSides(fresh);
    }
  },
};

/** A stream on which the far end sends endlessly, and that is never read, while another one echoes. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Work } from './work.js';

/** The time until every buffer on the way to the stalled reader is full. */
const FILL_MS = 500;
/** Without an echo for this long, the unread stream has blocked the others. */
const STOPPED_MS = 5000;

/** Measures the echo's median, or reports that echoes have stopped. */
export const neverRead: Work = {
  id: 'never-read',
  rows: () => [{ key: 'p50', title: 'echo next to an unread stream, p50', unit: 'µs' }],
  async measure({ load, secondLoad, running, amounts }) {
    const { address } = running;
    await load.run({ kind: 'hold-unread', address });
    try {
      await delay(FILL_MS);
      const messages = Math.ceil(amounts.echoes / 4);
      const { p50 } = await secondLoad.run({ kind: 'echo', address, bytes: 1, messages }, STOPPED_MS);
      return { p50: p50 ?? Number.NaN };
    } finally {
      await load.run({ kind: 'release' });
    }
  },
};

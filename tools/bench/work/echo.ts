/** Echoed messages, alone on one connection. */
import type { Work } from './work.js';

/** Messages of 1 byte and of 16 KiB. */
export const echoes: readonly Work[] = [echo(1, '1 B'), echo(16_384, '16 KiB')];

function echo(bytes: number, size: string): Work {
  return {
    id: `echo-${bytes}`,
    rows: () => [
      { key: 'p50', title: `echo of ${size}, p50`, unit: 'µs' },
      { key: 'p99', title: '  p99', unit: 'µs' },
      { key: 'p999', title: '  p99.9', unit: 'µs' },
    ],
    async measure({ load, running, amounts }) {
      const { p50, p99, p999 } = await load.run({
        kind: 'echo',
        address: running.address,
        bytes,
        messages: amounts.echoes,
      });
      return { p50: p50 ?? Number.NaN, p99: p99 ?? Number.NaN, p999: p999 ?? Number.NaN };
    },
  };
}

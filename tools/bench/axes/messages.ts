/** How an echo grows with the size of its message. */
import type { Axis } from './axis.js';
import { SeriesTable } from './series-table.js';
import { withContender } from './with-contender.js';

const SIZES = [1, 16, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576];
/** How long it is measured at each size. */
const FOR_MS = 500;

/** Echo of 1 byte to 1 MiB: median, and messages per second. */
export const messagesAxis: Axis = {
  id: 'messages',
  async measure(options, run) {
    const tables = { p50: new SeriesTable(), perSecond: new SeriesTable() };
    for (let round = 0; round < options.rounds; round += 1) {
      for (const contender of options.contenders) {
        run.progress(`messages, round ${round + 1} of ${options.rounds}: ${contender.id}`);
        await withContender(contender, options, run, async ({ running, load }) => {
          for (const bytes of SIZES) {
            const echo = { kind: 'echo', address: running.address, bytes, messages: Infinity, forMs: FOR_MS } as const;
            const { p50 = Number.NaN, perSecond = Number.NaN } = await load.run(echo);
            tables.p50.add(contender.title, bytes, p50);
            tables.perSecond.add(contender.title, bytes, perSecond);
          }
        });
      }
    }
    const x = { title: 'message size, bytes', scale: 'log' } as const;
    return [
      tables.p50.plot({ x, name: 'messages-echo', title: 'Echo, median', y: { title: 'µs' } }),
      tables.perSecond.plot({
        x,
        name: 'messages-rate',
        title: 'Sequential echoes',
        y: { title: 'per second' },
      }),
    ];
  },
};

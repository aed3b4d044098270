/** How figures grow with the number of open streams: 8 are active, the others are idle. */

import { descriptorLimit } from '../process/programs.js';
import { cpuSecondsOf } from '../process/tree.js';
import { pidsOf } from '../work/work.js';
import type { Axis } from './axis.js';
import { countsOfStreams } from './counts-of-streams.js';
import { SeriesTable } from './series-table.js';
import { type AxisContext, withContender } from './with-contender.js';

const ACTIVE_STREAMS = 8;
const ECHOES = 1000;
/** The deadline of opening the idle ones, in milliseconds. */
const OPEN_TIMEOUT_MS = 60_000;

/** Rate, cost and echo beside 1 to 10,000 open streams, or as many as descriptors allow. */
export const streamsAxis: Axis = {
  id: 'streams',
  async measure(options, run) {
    const tables = { rate: new SeriesTable(), cpu: new SeriesTable(), echo: new SeriesTable() };
    const limit = await descriptorLimit();
    for (let round = 0; round < options.rounds; round += 1) {
      for (const contender of options.contenders) {
        const counts = countsOfStreams(contender.descriptorsPerStream, limit);
        run.progress(
          `streams, round ${round + 1} of ${options.rounds}: ${contender.id}, up to ${counts.at(-1)} idle ones`,
        );
        await withContender(contender, options, run, async (context) => {
          let open = 0;
          for (const count of counts) {
            const { address } = context.running;
            await context.secondLoad.run({ kind: 'hold', address, count: count - open }, OPEN_TIMEOUT_MS);
            open = count;
            const { rate, cpu, echo } = await measurePoint(context, options.amounts.bytes);
            tables.rate.add(contender.title, count, rate);
            if (context.running.near.length > 0) tables.cpu.add(contender.title, count, cpu);
            tables.echo.add(contender.title, count, echo);
          }
        });
      }
    }
    const x = { title: 'idle streams open meanwhile', scale: 'log' } as const;
    return [
      tables.rate.plot({
        x,
        name: 'streams-rate',
        title: 'Rate of 8 streams, up',
        y: { title: 'MB/s' },
      }),
      tables.cpu.plot({
        x,
        name: 'streams-cpu',
        title: 'CPU time of both sides',
        y: { title: 's/GB' },
      }),
      tables.echo.plot({
        x,
        name: 'streams-echo',
        title: 'Echo of 1 byte, median',
        y: { title: 'µs' },
      }),
    ];
  },
};

async function measurePoint(
  { running, load }: AxisContext,
  bytes: number,
): Promise<{ readonly rate: number; readonly cpu: number; readonly echo: number }> {
  const { address } = running;
  const pids = pidsOf([...running.near, ...running.far]);
  const before = cpuSecondsOf(pids);
  const perStream = Math.ceil(bytes / ACTIVE_STREAMS);
  const streams = ACTIVE_STREAMS;
  const { rate } = await load.run({ kind: 'rate', address, direction: 'up', streams, bytes: perStream });
  const cpu = (cpuSecondsOf(pids) - before) / ((perStream * streams) / 1e9);
  await load.run({ kind: 'release' });
  const { p50 } = await load.run({ kind: 'echo', address, bytes: 1, messages: ECHOES });
  return { rate: rate ?? Number.NaN, cpu, echo: p50 ?? Number.NaN };
}

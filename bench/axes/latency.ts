/** How the rate grows with the latency of the channel, and how long it takes to get there. */

import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PROJECT_ROOT } from '../../spec/helpers/project-root.js';
import type { RunningProgram } from '../process/programs.js';
import type { Axis, Plot } from './axis.js';
import { meanRate, rateOf, type Sample, secondsToReach } from './ramp.js';
import { SeriesTable } from './series-table.js';
import { type AxisContext, withContender } from './with-contender.js';

const RELAY_SCRIPT = join(PROJECT_ROOT, 'dist/bench/axes/delay-relay.js');
const ROUND_TRIPS_MS = [0, 1, 10, 100];
/** In MB/s; 0 is without a limit. */
const RATES = [100, 0];
const STREAMS = [1, 8];
/** Every point is measured from its first byte for so long. */
const FOR_MS = 10_000;
const QUICK_FOR_MS = 2000;
const SAMPLE_MS = 100;
/** The share of the rate without latency that counts as reached. */
const REACHED = 0.9;

/** Rates of 1 and 8 streams, down, and the time until 90 % of the rate without latency is reached. */
export const latencyAxis: Axis = {
  id: 'latency',
  async measure(options, run) {
    const forMs = options.quick ? QUICK_FOR_MS : FOR_MS;
    const tables = new Map<string, SeriesTable>();
    const table = (name: string): SeriesTable => tables.get(name) ?? (tables.set(name, new SeriesTable()), table(name));
    for (let round = 0; round < options.rounds; round += 1) {
      for (const { contender, rate, streams } of eachPoint(options.contenders)) {
        let undelayed: number | undefined;
        for (const roundTripMs of ROUND_TRIPS_MS) {
          run.progress(
            `latency, round ${round + 1} of ${options.rounds}: ${contender.id}, ${streams}, ${roundTripMs} ms`,
          );
          const relays: RunningProgram[] = [];
          const through = (path: string): string => {
            const delayed = join(dirname(path), 'delayed.sock');
            relays.push(run.setting.programs.startScript(RELAY_SCRIPT, [delayed, path, `${roundTripMs}`, `${rate}`]));
            return delayed;
          };
          const measure = async (context: AxisContext): Promise<void> => {
            const samples = await sampleRamp(context, streams, forMs);
            undelayed ??= rateOf(samples);
            const name = `${streams}-${rate}`;
            table(`rate-${name}`).add(contender.title, roundTripMs, meanRate(samples));
            const seconds = secondsToReach(samples, undelayed * REACHED);
            if (seconds !== undefined) table(`ramp-${name}`).add(contender.title, roundTripMs, seconds);
          };
          await withContender(contender, options, run, measure, { through, isCold: true });
          await Promise.all(relays.map((relay) => relay.stop()));
        }
      }
    }
    return [...tables].map(([name, points]) =>
      points.plot({ ...describe(name, forMs / 1000), name: `latency-${name}` }),
    );
  },
};

function eachPoint<C extends { readonly id: string }>(contenders: readonly C[]) {
  // ssh makes its channel itself, and the socket alone has none.
  const delayable = contenders.filter(({ id }) => !['ssh', 'socket', 'vproxy-tcp'].includes(id));
  return RATES.flatMap((rate) =>
    STREAMS.flatMap((streams) => delayable.map((contender) => ({ contender, rate, streams }))),
  );
}

/** Bytes that had come at each moment since the streams were opened. */
async function sampleRamp({ running, load }: AxisContext, streams: number, forMs: number): Promise<Sample[]> {
  await load.run({ kind: 'start-bulk', address: running.address, direction: 'down', streams });
  const samples: Sample[] = [];
  let startedAtMs: number | undefined;
  for (;;) {
    const { bytes = 0, atMs = 0 } = await load.run({ kind: 'count-bulk' });
    startedAtMs ??= atMs;
    samples.push({ atMs: atMs - startedAtMs, bytes });
    if (atMs - startedAtMs >= forMs) return samples;
    await delay(SAMPLE_MS);
  }
}

function describe(name: string, seconds: number): Pick<Plot, 'title' | 'x' | 'y'> {
  const [figure = '', streams = '', rate = ''] = name.split('-');
  const channel = rate === '0' ? 'a channel without a limit' : `a channel of ${rate} MB/s`;
  const who = `${streams} stream${streams === '1' ? '' : 's'} down, ${channel}`;
  const x = { title: 'round trip, ms', scale: 'linear' } as const;
  return figure === 'rate'
    ? { x, title: `Rate in the first ${seconds} seconds, ${who}`, y: { title: 'MB/s', scale: 'linear' } }
    : { x, title: `Until 90 % of the rate without latency, ${who}`, y: { title: 's', scale: 'linear' } };
}

/** The rate by the latency of the channel, and the time until it is reached. */

import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';
import type { RunningProgram } from '../process/programs.js';
import type { Axis, Plot } from './axis.js';
import { rateAtEnd, type Sample, secondsToReach } from './ramp.js';
import { SeriesTable } from './series-table.js';
import { type AxisContext, withContender } from './with-contender.js';

const RELAY_SCRIPT = join(PROJECT_ROOT, 'dist/tools/bench/axes/delay-relay.js');
const ROUND_TRIPS_MS = [0, 1, 10, 100];
/** In MB/s; 0: unlimited. */
const CHANNELS = [
  { rate: 100, streams: 1 },
  { rate: 100, streams: 8 },
  { rate: 0, streams: 1 },
];
/** Every point is measured from its first byte for this long, or until it has reached its rate. */
const SHORT_MS = 2000;
/** A transfer that takes many round trips to grow gets more time. */
const LONG_MS = 10_000;
const QUICK_LONG_MS = 4000;
const LONG_FROM_ROUND_TRIP_MS = 100;
/** How long it is measured at its full rate. */
const AT_RATE_MS = 1500;
const SAMPLE_MS = 100;
/** The share of the rate without latency that counts as reached. */
const REACHED = 0.9;

/** Measures the final rates of 1 and 8 streams, down, and the time until 90 % of the rate without latency is reached. */
export const latencyAxis: Axis = {
  id: 'latency',
  async measure(options, run) {
    const longMs = options.quick ? QUICK_LONG_MS : LONG_MS;
    const tables = new Map<string, SeriesTable>();
    const table = (name: string): SeriesTable => tables.get(name) ?? (tables.set(name, new SeriesTable()), table(name));
    for (let round = 0; round < options.rounds; round += 1) {
      for (const { contender, rate, streams } of eachPoint(options.contenders)) {
        let undelayed: number | undefined;
        for (const roundTripMs of ROUND_TRIPS_MS) {
          run.progress(
            `latency, round ${round + 1} of ${options.rounds}: ${contender.id}, streams: ${streams}, MB/s: ${rate || 'any'}, ${roundTripMs} ms`,
          );
          const relays: RunningProgram[] = [];
          const through = (path: string): string => {
            const delayed = join(dirname(path), 'delayed.sock');
            relays.push(run.setting.programs.startScript(RELAY_SCRIPT, [delayed, path, `${roundTripMs}`, `${rate}`]));
            return delayed;
          };
          const measure = async (context: AxisContext): Promise<void> => {
            const forMs = roundTripMs >= LONG_FROM_ROUND_TRIP_MS ? longMs : SHORT_MS;
            const goal = (undelayed ?? Infinity) * REACHED;
            const samples = await sampleRamp(context, streams, forMs, goal);
            undelayed ??= rateAtEnd(samples, AT_RATE_MS);
            const name = `${streams}-${rate}`;
            table(`rate-${name}`).add(contender.title, roundTripMs, rateAtEnd(samples, AT_RATE_MS));
            const seconds = secondsToReach(samples, undelayed * REACHED);
            if (seconds !== undefined) table(`ramp-${name}`).add(contender.title, roundTripMs, seconds);
          };
          await withContender(contender, options, run, measure, { through, isCold: true });
          await Promise.all(relays.map((relay) => relay.stop()));
        }
      }
    }
    return [...tables].map(([name, points]) => points.plot({ ...describe(name), name: `latency-${name}` }));
  },
};

function eachPoint<C extends { readonly id: string }>(contenders: readonly C[]) {
  // ssh makes its channel itself, and the socket alone has no channel.
  const delayable = contenders.filter(({ id }) => !['ssh', 'socket', 'vproxy-tcp'].includes(id));
  return CHANNELS.flatMap((channel) => delayable.map((contender) => ({ contender, ...channel })));
}

/** Samples the bytes received since the streams were opened, until the rate has been at `goal`. */
async function sampleRamp(
  { running, load }: AxisContext,
  streams: number,
  forMs: number,
  goal: number,
): Promise<Sample[]> {
  await load.run({ kind: 'start-bulk', address: running.address, direction: 'down', streams });
  const samples: Sample[] = [];
  let startedAtMs: number | undefined;
  for (;;) {
    const { bytes = 0, atMs = 0 } = await load.run({ kind: 'count-bulk' });
    startedAtMs ??= atMs;
    samples.push({ atMs: atMs - startedAtMs, bytes });
    const passedMs = atMs - startedAtMs;
    const reachedMs = 1000 * (secondsToReach(samples, goal) ?? Infinity);
    if (passedMs >= forMs || passedMs >= Math.max(reachedMs, SHORT_MS - AT_RATE_MS) + AT_RATE_MS) return samples;
    await delay(SAMPLE_MS);
  }
}

function describe(name: string): Pick<Plot, 'title' | 'x' | 'y'> {
  const [figure = '', streams = '', rate = ''] = name.split('-');
  const channel = rate === '0' ? 'unlimited channel' : `channel of ${rate} MB/s`;
  const who = `${streams} stream${streams === '1' ? '' : 's'} down, ${channel}`;
  const x = { title: 'round trip, ms', scale: 'log-and-zero' } as const;
  return figure === 'rate'
    ? { x, title: `Rate after ramp-up, ${who}`, y: { title: 'MB/s' } }
    : { x, title: `Time to 90 % of the rate without latency, ${who}`, y: { title: 's' } };
}

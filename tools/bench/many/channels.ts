/** The cost of many channels in one process: memory, and processor time at rest and with a byte a second on each. */
import { setTimeout as delay } from 'node:timers/promises';
import { residentBytes } from '../../../spec/helpers/measures.js';
import type { Programs } from '../process/programs.js';
import { cpuSecondsOf } from '../process/tree.js';
import type { Amounts, Outcomes, Work } from '../work/work.js';
import { Fleet } from './fleet.js';
import { Trickle } from './trickle.js';

/** The time until memory of the opening is released: an idle link frees its buffer after a few PINGs. */
const SETTLE_MS = 1000;

/** The work's name and its rows. */
export const CHANNELS: Pick<Work, 'id' | 'rows'> = {
  id: 'channels',
  rows: ({ channels }: Amounts) => [
    { key: 'memory', title: `${channels} channels in one process, resident memory`, unit: 'MB' },
    { key: 'each', title: '  per additional channel', unit: 'KB' },
    { key: 'cpu', title: '  CPU of the process', unit: '% of a core' },
    { key: 'echo-p50', title: '  echo on one of them, p50', unit: 'µs' },
    { key: 'echo-p99', title: '  p99', unit: 'µs' },
  ],
};

/** The load of the channels. */
export const CHANNEL_LOADS: readonly { readonly id: 'rest' | 'trickle'; readonly title: string }[] = [
  { id: 'rest', title: 'at rest' },
  { id: 'trickle', title: '1 B/s on each' },
];

/**
 * Starts that many channels, measures them at rest and under the trickle, and stops them. Returns outcomes by the id of the load.
 */
export async function measureChannels(
  programs: Programs,
  folder: string,
  { channels, channelsMs }: Amounts,
): Promise<Record<(typeof CHANNEL_LOADS)[number]['id'], Outcomes>> {
  const bytesOfOne = await memoryOfOne(programs, folder);
  const fleet = await Fleet.start(channels, programs, folder);
  const measure = async (): Promise<Outcomes> => {
    const { pid } = fleet.host;
    const [cpuSeconds, startedAt] = [cpuSecondsOf([pid]), performance.now()];
    await delay(channelsMs);
    const seconds = (performance.now() - startedAt) / 1000;
    const bytes = residentBytes(pid);
    return {
      memory: bytes / 1e6,
      each: (bytes - bytesOfOne) / (channels - 1) / 1000,
      cpu: (100 * (cpuSecondsOf([pid]) - cpuSeconds)) / seconds,
    };
  };
  try {
    await delay(SETTLE_MS);
    const rest = await measure();
    const trickle = new Trickle(await fleet.connect());
    const underTrickle = await measure();
    return { rest, trickle: { ...underTrickle, ...trickle.stop() } };
  } finally {
    await fleet.stop();
  }
}

async function memoryOfOne(programs: Programs, folder: string): Promise<number> {
  const fleet = await Fleet.start(1, programs, folder);
  await delay(SETTLE_MS);
  const bytes = residentBytes(fleet.host.pid);
  await fleet.stop();
  return bytes;
}

/** The memory of idle streams. */
import { setTimeout as delay } from 'node:timers/promises';
import type { RunningContender } from '../contenders/contender.js';
import { residentBytesOf } from '../process/tree.js';
import { type Amounts, NOT_TRIED, type Outcomes, pidsOf, stopSides, type Work, type WorkContext } from './work.js';

/** Processes need descriptors beside those of the streams. */
const OTHER_DESCRIPTORS = 100;
/** The maximum of streams for a contender with processes for each stream. */
const MOST_STREAMS_AS_PROCESSES = 1000;
/** The time until memory of the opening is released. */
const SETTLE_MS = 300;
/** The deadline of opening streams, in milliseconds. */
const OPEN_TIMEOUT_MS = 20_000;

/** Measures the growth of each side's resident memory per stream, in a fresh contender. */
export const idle: Work = {
  id: 'idle',
  isSlow: true,
  rows: ({ idleStreams }: Amounts) =>
    idleStreams.flatMap((count) => [
      { key: `both-${count}`, title: `${count.toLocaleString('en')} idle streams, both sides`, unit: 'KB each' },
      { key: `near-${count}`, title: '  near side', unit: 'KB each' },
      { key: `far-${count}`, title: '  far side', unit: 'KB each' },
    ]),
  async measure(context) {
    if (context.running.near.length === 0) return {};
    const fresh = await context.startFresh();
    try {
      return await measureSteps(context, fresh);
    } finally {
      context.load.stop();
      await stopSides(fresh);
    }
  },
};

async function measureSteps(context: WorkContext, fresh: RunningContender): Promise<Outcomes> {
  const { amounts, load } = context;
  const outcomes: Record<string, number | string> = {};
  await delay(SETTLE_MS);
  const before = residentBytes(fresh);
  let open = 0;
  let failure: string | undefined;
  for (const count of amounts.idleStreams) {
    failure ??= whyTooMany(count, context);
    if (failure === undefined) {
      try {
        await load.run({ kind: 'hold', address: fresh.address, count: count - open }, OPEN_TIMEOUT_MS);
        open = count;
      } catch (error) {
        failure = error instanceof Error ? error.message : String(error);
      }
    }
    await delay(SETTLE_MS);
    const now = residentBytes(fresh);
    const near = (now.near - before.near) / count / 1000;
    const far = (now.far - before.far) / count / 1000;
    const kilobytes: Record<string, number> = { both: near + far, near, far };
    for (const [side, figure] of Object.entries(kilobytes)) outcomes[`${side}-${count}`] = failure ?? figure;
  }
  return outcomes;
}

function whyTooMany(count: number, { contender, descriptorLimit }: WorkContext): string | undefined {
  if (contender.descriptorsPerStream === Infinity) {
    return count > MOST_STREAMS_AS_PROCESSES ? `${NOT_TRIED}: would take ${2 * count} processes` : undefined;
  }
  const needed = count * contender.descriptorsPerStream + OTHER_DESCRIPTORS;
  return needed > descriptorLimit
    ? `${NOT_TRIED}: needs ${needed} descriptors, the limit is ${descriptorLimit}`
    : undefined;
}

function residentBytes({ near, far }: RunningContender): { readonly near: number; readonly far: number } {
  return { near: residentBytesOf(pidsOf(near)), far: residentBytesOf(pidsOf(far)) };
}

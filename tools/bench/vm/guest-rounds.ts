/** The rounds in a guest: in each, one contender after the other is started, warmed up, measured and stopped. */
import type { Guest } from '../../../spec/vm/rig/guest.js';
import type { Results } from '../results.js';
import { type RunningVmContender, VM_CONTENDERS, type VmContender } from './contenders.js';
import { measureInGuest, type VmAmounts, type VmWork } from './work.js';

/** What to measure. */
export interface GuestRoundsOptions {
  readonly guest: Guest;
  readonly rounds: number;
  readonly works: readonly VmWork[];
  readonly amounts: VmAmounts;
  /** Reports the progress to the user. */
  readonly progress: (line: string) => void;
}

/** Runs all rounds in a guest that has the programs of `installInGuest`, and records the outcomes in `results`. A failing contender never ends the run. */
export async function runGuestRounds(options: GuestRoundsOptions, results: Results): Promise<void> {
  for (let round = 0; round < options.rounds; round += 1) {
    for (const contender of VM_CONTENDERS) {
      options.progress(`round ${round + 1} of ${options.rounds}: ${contender.title}`);
      await measureContender(contender, options, results);
    }
  }
}

/** The number of warm-up runs of each. */
const WARM_UPS = 2;

async function measureContender(contender: VmContender, options: GuestRoundsOptions, results: Results): Promise<void> {
  const { guest, amounts, progress } = options;
  const works = options.works.filter(({ isMultiplexed = false }) => contender.isMultiplexed || !isMultiplexed);
  if (works.length === 0) return;
  let running: RunningVmContender | undefined;
  let failure: string | undefined;
  try {
    running = await contender.start(guest);
    // The first transfers wait for the session and for the compiler, which takes seconds under emulation.
    for (let pass = 0; pass < WARM_UPS; pass += 1) {
      for (const work of works.filter(({ isMultiplexed = false }) => !isMultiplexed)) {
        await measureInGuest(work, running.address, amounts);
      }
    }
  } catch (error) {
    failure = messageOf(error);
  }
  for (const work of works) {
    if (running !== undefined && failure === undefined) {
      try {
        results.add(work.id, contender.id, await measureInGuest(work, running.address, amounts));
        continue;
      } catch (error) {
        failure = messageOf(error);
      }
    }
    // Later work would be affected by the failure.
    progress(`${contender.title}, ${work.id}: ${failure}`);
    results.add(work.id, contender.id, Object.fromEntries(work.rows.map(({ key }) => [key, failure ?? ''])));
  }
  await running?.stop();
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

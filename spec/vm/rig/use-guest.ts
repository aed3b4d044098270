/** One guest, or laboratory, for all tests of a file, with the console and the logs shown when one of them fails. */
import type { TestFn } from 'ava';

import { bootGuest, type Guest } from './guest.js';
import type { GuestPlan } from './guest-options.js';
import { Laboratory, type LaboratoryPlan } from './laboratory.js';

/** The options of the guest of a test file. */
export interface UseGuestOptions {
  /** The plan of the guest. Default: the usual one. */
  readonly plan?: GuestPlan | undefined;
  /** Shown in addition to the console where a test fails. */
  readonly whenFailed?: () => Promise<string>;
}

/** Boots a guest before the tests of a file, stops it after them, and returns a function for it. */
export function useGuest(test: TestFn, { plan, whenFailed }: UseGuestOptions = {}): () => Guest {
  let guest: Guest | undefined;
  const booted = () => {
    if (guest === undefined) throw new Error('no guest was booted');
    return guest;
  };

  test.serial.before('a guest boots', async (t) => {
    t.timeout(180_000);
    const began = performance.now();
    guest = await bootGuest(plan);
    t.log(`up after ${Math.round(performance.now() - began)} ms with ${guest.accelerator}`);
  });

  test.afterEach.always('the console is kept', async (t) => {
    if (t.passed || guest === undefined) return;
    t.log((await whenFailed?.().catch(String)) ?? '');
    t.log(`the guest's console, kept in ${guest.console.keep()}:\n${guest.console.tail()}`);
  });

  test.serial.after.always('the guest is stopped', async () => {
    await guest?.stop();
  });

  return booted;
}

/** Boots a guest and starts both sides before the tests of a file, stops them after them, and returns a function for it. */
export function useLaboratory(test: TestFn, plan: LaboratoryPlan = {}): () => Laboratory {
  let laboratory: Laboratory | undefined;
  const guest = useGuest(test, { plan: plan.guest, whenFailed: async () => (await laboratory?.logs()) ?? '' });

  test.serial.before('both sides are started', async (t) => {
    t.timeout(120_000);
    laboratory = await Laboratory.start(guest(), plan);
  });

  test.serial.after.always('both sides are stopped', async () => {
    await laboratory?.stop();
  });

  return () => {
    if (laboratory === undefined) throw new Error('no laboratory was started');
    return laboratory;
  };
}

/** One laboratory for all tests of a file, with the logs of both sides shown when one of them fails. */
import type { TestFn } from 'ava';

import { GUEST_BUNDLE } from './initramfs.js';
import { Laboratory, type LaboratoryPlan } from './laboratory.js';
import { useGuest } from './use-guest.js';

/**
 * Boots a guest and starts both sides before the tests of a file, stops them after them, and returns a function for it.
 * The guest's vproxy is the one file, unless `plan` has another program.
 */
export function useLaboratory(test: TestFn, plan: LaboratoryPlan = {}): () => Laboratory {
  let laboratory: Laboratory | undefined;
  const guest = useGuest(test, { plan: plan.guest, whenFailed: async () => (await laboratory?.logs()) ?? '' });

  test.serial.before('both sides are started', async (t) => {
    t.timeout(120_000);
    laboratory = await Laboratory.start(guest(), { guestProgram: ['node', GUEST_BUNDLE], ...plan });
  });

  test.serial.after.always('both sides are stopped', async () => {
    await laboratory?.stop();
  });

  return () => {
    if (laboratory === undefined) throw new Error('no laboratory was started');
    return laboratory;
  };
}

/** One guest for all tests of a file; shows the console and the logs when one of them fails. */
import type { TestFn } from 'ava';
import { bootGuest, type Guest } from './guest.js';
import type { GuestPlan } from './guest-options.js';

interface UseGuestOptions {
  readonly plan?: GuestPlan;
  /** Shown in addition to the console when a test fails. */
  readonly whenFailed?: () => Promise<string> | undefined;
}

/** Boots a guest before the tests of a file, stops it after them, and returns a function for it. */
export function useGuest(test: TestFn, { plan, whenFailed }: UseGuestOptions = {}): () => Guest {
  let guest: Guest | undefined;

  test.serial.before('a guest boots', async (t) => {
    const began = performance.now();
    guest = await bootGuest(plan);
    t.log(`up after ${Math.round(performance.now() - began)} ms with ${guest.accelerator}`);
  });

  test.afterEach.always('the console is kept', async (t) => {
    if (t.passed || guest === undefined) return;
    t.log((await whenFailed?.()?.catch(String)) ?? '');
    t.log(`the guest's console, kept in ${guest.keepConsole()}:\n${guest.consoleTail()}`);
  });

  test.serial.after.always('the guest is stopped', () => guest?.stop());

  return () => {
    if (guest === undefined) throw new Error('no guest was booted');
    return guest;
  };
}

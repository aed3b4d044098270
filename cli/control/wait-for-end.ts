/** Waiting for the end of a process. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ControlClient } from '../../lib/control/client.js';
import { VproxyError } from '../../lib/errors.js';

/** Between two looks, in milliseconds. */
const INTERVAL_MS = 50;

/** Resolved when no process answers any more. Rejects with `control-unavailable` where one does after `timeoutMs`. */
export async function waitForEnd(control: ControlClient, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (await isThere(control)) {
    if (performance.now() > deadline) {
      throw new VproxyError('control-unavailable', `the process still runs after ${Math.round(timeoutMs / 1000)} s`);
    }
    await delay(INTERVAL_MS);
  }
}

async function isThere(control: ControlClient): Promise<boolean> {
  try {
    await control.status();
    return true;
  } catch (error) {
    if (error instanceof VproxyError && error.code === 'control-unavailable') return false;
    throw error;
  }
}

/** The resources of the system that this process holds: file descriptors, and Node's handles by their kind. */
import { readdirSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { eventually } from '../helpers/time.js';

/** Counts by name, such as `{ descriptors: 23, PipeWrap: 4 }`. */
export type Resources = Readonly<Record<string, number>>;

/** What is held now. Handles that do not belong to sockets and come and go are left out. */
export function heldResources(): Resources {
  const counts: Record<string, number> = { descriptors: readdirSync('/proc/self/fd').length };
  for (const name of process.getActiveResourcesInfo()) {
    if (name !== 'Immediate') counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** Fails the test where more is held than `before`, also after a while; the figures go to the log. */
export async function assertGivenBack(t: ExecutionContext, before: Resources): Promise<void> {
  const surplus = (): string[] =>
    Object.entries(heldResources())
      .filter(([name, count]) => name !== 'Timeout' && count > (before[name] ?? 0))
      .map(([name, count]) => `${name}: ${count} instead of ${before[name] ?? 0}`);
  await eventually(() => surplus().length === 0, { what: 'the handles' }).catch(() => undefined);
  const after = heldResources();
  t.log(`held before: ${JSON.stringify(before)}, after: ${JSON.stringify(after)}`);
  t.deepEqual(surplus(), []);
  // A timer or two may come and go; one for each operation may not.
  t.true((after['Timeout'] ?? 0) <= (before['Timeout'] ?? 0) + SPARE_TIMERS, `${after['Timeout']} timers`);
}

const SPARE_TIMERS = 10;

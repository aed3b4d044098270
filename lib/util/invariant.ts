/**
 * Asserted invariants. Statements labelled `INVARIANT` run in specs, from the single modules; the programs that ship are built
 * without them (`packaging/bundle-settings.mjs`).
 */
import { VproxyError } from '../errors.js';

/** Throws `internal`, with the values, unless all conditions hold: a defect of this program. */
export function assertInvariants(
  what: string,
  values: () => Readonly<Record<string, unknown>>,
  ...conditions: readonly boolean[]
): void {
  const broken = conditions.indexOf(false);
  if (broken < 0) return;
  throw new VproxyError(
    'internal',
    `${what}: invariant ${broken + 1} of ${conditions.length}: ${JSON.stringify(values())}`,
  );
}

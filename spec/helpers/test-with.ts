/** Tests that need something of the machine: if it is missing they are skipped, and counted at the end of `npm test`. */
import { appendFileSync } from 'node:fs';
import test from 'ava';
import { hasNeed, installLine, type NeedName, REQUIRE_ALL, SKIPPED_FILE } from './needs.js';

type Declare = (typeof test)['skip'];

/** `test` if this machine has everything; otherwise a skipped, counted test. Throws where nothing may be missing. */
export const testWith = (...names: readonly NeedName[]): Declare => declareWith(names, test);

export const serialTestWith = (...names: readonly NeedName[]): Declare => declareWith(names, test.serial);

function declareWith(names: readonly NeedName[], declare: Declare): Declare {
  const missing = names.filter((name) => !hasNeed(name));
  const [first] = missing;
  if (first === undefined) return declare;
  if (process.env[REQUIRE_ALL] !== undefined) {
    throw new Error(`the machine lacks ${missing.join(', ')}: ${installLine(missing)}`);
  }
  const skip = (...args: Parameters<Declare>): void => {
    test.skip(...args);
    const file = process.env[SKIPPED_FILE];
    if (file !== undefined) appendFileSync(file, `${first}\n`);
  };
  return skip as Declare;
}

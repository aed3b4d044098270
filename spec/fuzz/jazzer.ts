/**
 * Runs one target under Jazzer.js, which searches for inputs that reach new code. Not a dependency of the project:
 * its binary needs glibc 2.38. After `npm run build`, in a folder of its own with `npm i @jazzer.js/core`:
 *
 *     node PROJECT/dist/spec/fuzz/write-seeds.js frame-reader seeds/
 *     VPROXY_FUZZ=frame-reader npx jazzer PROJECT/dist/spec/fuzz/jazzer.js -i PROJECT/dist/lib -i PROJECT/dist/cli \
 *       found/ seeds/ PROJECT/spec/fuzz/corpus/frame-reader -- -max_total_time=60 -max_len=1024
 *
 * `found/` has to be there; it gets what reaches something new. `-- -merge=1 kept/ found/` keeps the smallest of it that
 * reaches as much, for `spec/fuzz/corpus/TARGET/`. What fails is written to a file `crash-…` in the current folder.
 */
import { FUZZ_TARGETS, type FuzzTarget, type FuzzTargetName } from './targets/index.js';

const name = process.env['VPROXY_FUZZ'] ?? '';
if (!Object.hasOwn(FUZZ_TARGETS, name)) {
  throw new Error(`VPROXY_FUZZ is none of: ${Object.keys(FUZZ_TARGETS).join(', ')}`);
}

/** What Jazzer.js calls. */
export const fuzz: FuzzTarget = FUZZ_TARGETS[name as FuzzTargetName];

/**
 * Runs one target under Jazzer.js, which searches for inputs that reach new code. Not a dependency of the project: its
 * binary needs glibc 2.38. After `npm run build`, in a folder of its own with `npm i @jazzer.js/core`, PROJECT being here:
 *
 *     export VPROXY_FUZZ=frame-reader; mkdir found kept
 *     node PROJECT/dist/spec/fuzz/search.js seeds $VPROXY_FUZZ seeds
 *     JAZZER="npx jazzer PROJECT/dist/spec/fuzz/jazzer.js --sync -i PROJECT/dist/lib -i PROJECT/dist/cli"
 *     $JAZZER found seeds -- -max_total_time=60 -max_len=1024
 *     $JAZZER kept found seeds -- -merge=1
 *     node PROJECT/dist/spec/fuzz/search.js keep $VPROXY_FUZZ kept
 *
 * `found` gets the inputs that reach something new, `kept` the smallest set of them that reaches as much, and the last
 * line makes that the kept corpus. An input that fails is written to a file `crash-…` in the current folder.
 */
import { FUZZ_TARGETS, type FuzzTarget, type FuzzTargetName } from './targets/index.js';

const name = process.env['VPROXY_FUZZ'] ?? '';
if (!Object.hasOwn(FUZZ_TARGETS, name)) {
  throw new Error(`VPROXY_FUZZ is none of: ${Object.keys(FUZZ_TARGETS).join(', ')}`);
}

/** What Jazzer.js calls. */
export const fuzz: FuzzTarget = FUZZ_TARGETS[name as FuzzTargetName];

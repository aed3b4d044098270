/** What `vproxy doctor` finds about: Key files. */
import { KEY_CASES } from './cases/keys.js';
import { runCases } from './run-cases.js';

runCases(KEY_CASES);

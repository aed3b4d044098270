/** What `vproxy doctor` finds about: Addresses that vproxy listens on, files that it writes, programs that it runs. */
import { LISTENER_CASES } from './cases/listeners.js';
import { runCases } from './run-cases.js';

runCases(LISTENER_CASES);

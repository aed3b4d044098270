/** What `vproxy doctor` finds about: The machine, the arguments, the logs, and the doctor itself. */
import { MACHINE_CASES } from './cases/machine.js';
import { runCases } from './run-cases.js';

runCases(MACHINE_CASES);

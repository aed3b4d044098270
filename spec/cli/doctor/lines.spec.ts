/** What `vproxy doctor` finds about: Serial lines, FIFOs, AF_VSOCK. */
import { LINE_CASES } from './cases/lines.js';
import { runCases } from './run-cases.js';

runCases(LINE_CASES);

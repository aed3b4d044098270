/** What `vproxy doctor` finds about: Egresses, and the proxies that programs are told of. */
import { EGRESS_CASES } from './cases/egress.js';
import { runCases } from './run-cases.js';

runCases(EGRESS_CASES);

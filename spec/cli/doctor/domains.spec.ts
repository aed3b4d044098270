/** What `vproxy doctor` finds about: Domains of libvirt. */
import { DOMAIN_CASES } from './cases/domains.js';
import { runCases } from './run-cases.js';

runCases(DOMAIN_CASES);

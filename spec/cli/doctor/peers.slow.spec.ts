/** What `vproxy doctor` finds about: Running vproxys, and their peers. */
import { PEER_CASES } from './cases/peers.js';
import { runCases } from './run-cases.js';

runCases(PEER_CASES);

/** Findings of `vproxy doctor` about sockets to connect to, and about running vproxys and their peers. */
import { runCases } from './cases/case.js';
import { PEER_CASES } from './cases/peers.js';
import { SOCKET_CASES } from './cases/sockets.js';

runCases([...SOCKET_CASES, ...PEER_CASES]);

/** What `vproxy doctor` finds about: Sockets to connect to. */
import { SOCKET_CASES } from './cases/sockets.js';
import { runCases } from './run-cases.js';

runCases(SOCKET_CASES);

/** A hostile peer against the real command line, with flows of datagrams. */
import { DATAGRAM_CASES } from './datagram-cases.js';
import { runTable } from './run-table.js';

runTable(DATAGRAM_CASES, 2);

/** A hostile peer that floods the real command line, before and in a session. */
import { DATAGRAM_CASES } from './datagram-cases.js';
import { FLOOD_CASES } from './flood-cases.js';
import { OPENING_FLOODS } from './opening-cases.js';
import { runTables } from './run-table.js';

runTables([...OPENING_FLOODS, ...FLOOD_CASES], DATAGRAM_CASES);

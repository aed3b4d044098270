/** A hostile peer against the real command line, with floods in a session. */
import { FLOOD_CASES } from './flood-cases.js';
import { runTable } from './run-table.js';

runTable(FLOOD_CASES, 2);

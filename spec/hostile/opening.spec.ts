/** A hostile peer against the real command line, before there is a session. */
import { OPENING_CASES } from './opening-cases.js';
import { runTable } from './run-table.js';

runTable(OPENING_CASES, 2);

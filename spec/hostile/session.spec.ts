/** A hostile peer against the real command line, with single frames of a session. */
import { SESSION_CASES } from './session-cases.js';
import { runTable } from './run-table.js';

runTable(SESSION_CASES, 2);

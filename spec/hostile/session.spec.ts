/** A hostile peer against the real command line, with single frames of a session. */

import { runTable } from './run-table.js';
import { SESSION_CASES } from './session-cases.js';

runTable(SESSION_CASES, 2);

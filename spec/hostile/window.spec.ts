/** A hostile peer against the real command line, with windows and credit. */

import { runTable } from './run-table.js';
import { WINDOW_CASES } from './window-cases.js';

// Each has a process of its own: memory that one used is not returned to the system at once.
runTable(WINDOW_CASES, WINDOW_CASES.length);

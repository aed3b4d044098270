/** A hostile peer against the real command line, with windows and credit. */
import { WINDOW_CASES } from './window-cases.js';
import { runTable } from './run-table.js';

runTable(WINDOW_CASES, 2);

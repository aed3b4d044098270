/** A hostile peer against the real command line: each way to end a session, and what a HELLO or a frame may poison. */
import { OPENING_CASES } from './opening-cases.js';
import { runTables } from './run-table.js';
import { SESSION_CASES } from './session-cases.js';

runTables([...OPENING_CASES, ...SESSION_CASES]);

/** What a peer makes the process keep costs about its bytes, however small the pieces. `spec/long/` has the same at full scale. */

import { runTables } from '../run-table.js';
import { WINDOW_CASES } from '../window-cases.js';
import { streamCases } from './stream-cases.js';

// Each has a process of its own: memory that one used is not returned to the system at once.
runTables(...[...WINDOW_CASES, ...streamCases({ streams: 8, bytesPerStream: 65_536 })].map((one) => [one]));

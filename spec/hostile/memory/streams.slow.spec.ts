/** Bytes of a peer cost the process about their size, however small the pieces. `spec/long/` has the same at full scale. */

import { runTables } from '../run-table.js';
import { WINDOW_CASES } from '../window-cases.js';
import { streamCases } from './stream-cases.js';

// Each has its own process: used memory is not returned to the system at once.
runTables(...[...WINDOW_CASES, ...streamCases({ streams: 8, bytesPerStream: 65_536 })].map((one) => [one]));

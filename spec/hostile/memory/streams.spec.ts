/** What a peer makes the process keep costs about its bytes, however small the pieces. `spec/long/` has the same at full scale. */

import { runTable } from '../run-table.js';
import { streamCases } from './stream-cases.js';

const cases = streamCases({ streams: 25, bytesPerStream: 65_536 });

// Each has a process of its own: memory that one used is not returned to the system at once.
runTable(cases, cases.length);

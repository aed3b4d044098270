/** What a peer makes the process keep costs about its bytes, however small the pieces. `spec/long/` has the same at full scale. */
import { memoryCases } from './memory-cases.js';
import { runTable } from './run-table.js';

const cases = memoryCases({ streams: 25, bytesPerStream: 65_536 });

// Each has a process of its own: what one took is not given back to the system at once.
runTable(cases, cases.length);

/** The memory of the side that runs commands, whatever some callers have it keep; of as many as there may be by the long specs. */
import { EXEC_CASES } from './exec-cases.js';
import { testMemory } from './memory-case.js';

testMemory('exec', EXEC_CASES, 0.04);

/** The memory of the side that runs commands, whatever some callers make it keep; the long specs use as many as allowed. */
import { EXEC_CASES } from './exec-cases.js';
import { testMemory } from './memory-case.js';

testMemory('exec', EXEC_CASES, 0.04);

/** The most that a peer can make the built-in services and the logs keep, at a fraction of the scale of spec/long. */
import { COPY_CASES } from './copy-cases.js';
import { EXEC_CASES } from './exec-cases.js';
import { LOG_CASES } from './log-cases.js';
import { testMemory } from './memory-case.js';

testMemory('logs', LOG_CASES, 0.12);
testMemory('copy', COPY_CASES, 0.1);
testMemory('exec', EXEC_CASES, 0.02);

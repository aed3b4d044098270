/** A part of what a peer can make the logs keep; all of it is logged by the long specs. */
import { LOG_CASES } from './log-cases.js';
import { testMemory } from './memory-case.js';

testMemory('logs', LOG_CASES, 0.2);

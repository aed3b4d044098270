/** A tenth of what a peer can make a copy keep; all of it is sent by the long specs. */
import { COPY_CASES } from './copy-cases.js';
import { testMemory } from './memory-case.js';

testMemory('copy', COPY_CASES, 0.1);

/** Everything that a peer can make the built-in services and the logs hold in memory, at full scale. */
import { COPY_CASES } from '../hostile/memory/copy-cases.js';
import { EXEC_CASES } from '../hostile/memory/exec-cases.js';
import { LOG_CASES } from '../hostile/memory/log-cases.js';
import { testMemory } from '../hostile/memory/memory-case.js';

testMemory('logs', LOG_CASES, 1);
testMemory('copy', COPY_CASES, 1);
testMemory('exec', EXEC_CASES, 1);

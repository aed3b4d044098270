/** All pieces of work, in the order of the table. */
import { besideBulk } from './beside-bulk.js';
import { connections } from './connections.js';
import { echoes } from './echo.js';
import { idle } from './idle.js';
import { neverRead } from './never-read.js';
import { rates } from './rates.js';
import { start } from './start.js';
import type { Work } from './work.js';

/** Every piece of work that each contender does. */
export const WORK: readonly Work[] = [...rates, ...echoes, ...connections, besideBulk, neverRead, start, idle];

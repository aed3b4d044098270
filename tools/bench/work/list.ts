/** All pieces of work, in the order in which they are done. */
import { besideBulk } from './beside-bulk.js';
import { connections } from './connections.js';
import { echoes } from './echo.js';
import { idle } from './idle.js';
import { neverRead } from './never-read.js';
import { messages, rates } from './rates.js';
import { rest } from './rest.js';
import { start } from './start.js';
import type { Work } from './work.js';

/** Every piece of work that each contender does. */
export const WORK: readonly Work[] = [
  start,
  rest,
  ...rates,
  messages,
  ...echoes,
  ...connections,
  besideBulk,
  neverRead,
  idle,
];

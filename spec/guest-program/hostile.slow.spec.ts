/** A hostile host against vproxy-guest: what it may send at any time, and its floods. */

import { hasNeed } from '../helpers/needs.js';
import { testWith } from '../helpers/test-with.js';
import { FLOOD_CASES } from '../hostile/flood-cases.js';
import { OPENING_CASES, OPENING_FLOODS } from '../hostile/opening-cases.js';
import { runTablesAt } from '../hostile/run-table.js';
import { SESSION_CASES } from '../hostile/session-cases.js';
import { startTarget } from '../hostile/target-process.js';
import { buildGuest, GUEST } from './build.js';

buildGuest();
if (hasNeed('go')) {
  const start = (t: Parameters<typeof startTarget>[0]) => startTarget(t, [], GUEST);
  runTablesAt(start, [...OPENING_CASES, ...SESSION_CASES], [...OPENING_FLOODS, ...FLOOD_CASES]);
} else testWith('go')('vproxy-guest survives a hostile host', (t) => t.pass());

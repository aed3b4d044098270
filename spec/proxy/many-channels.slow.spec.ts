/** As `many-channels.spec.ts`, for all other kinds of hostile guests. */
import test from 'ava';
import { HOSTILITIES } from '../helpers/hostile-guest.js';
import { staysQuick } from './beside-hostile.js';

for (const what of Object.keys(HOSTILITIES)) {
  if (what === 'sends DATA in large frames') continue;
  test.serial(`a neighbour's echoes beside a guest that ${what} stay within twice the quiet time`, (t) =>
    staysQuick(t, what),
  );
}

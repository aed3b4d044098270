/** What `many-channels.spec.ts` shows of one guest, of all others. */
import test from 'ava';
import { HOSTILITIES } from '../helpers/hostile-guest.js';
import { staysQuick } from './beside-hostile.js';

for (const what of Object.keys(HOSTILITIES)) {
  if (what === 'sends DATA in large frames') continue;
  test.serial(`a neighbour's echoes beside a guest that ${what} stay within twice the quiet time`, (t) =>
    staysQuick(t, what),
  );
}

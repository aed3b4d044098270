/**
 * Makes a test of each case. They run one after the other: each has processes of its own, whose answers have a deadline, and others
 * that pretend to be something else, which are in Python.
 */
import { FINDINGS } from '../../../cli/doctor/findings.js';
import { serialTestWith } from '../../helpers/test-with.js';
import type { FindingCase } from './cases/case.js';

/** The tests of a file. */
export function runCases(cases: readonly FindingCase[]): void {
  for (const { id, when, says, remedy, needs = [], find } of cases) {
    serialTestWith('python', ...needs)(`${id}: ${when}`, async (t) => {
      const all = await find(t);
      const found = all.filter((one) => one.id === id);
      t.true(found.length > 0, `found: ${all.map((one) => `${one.id}: ${one.message}`).join('\n')}`);
      const [one] = found;
      if (says !== undefined) t.regex(found.map(({ message }) => message).join('\n'), says);
      if (remedy !== undefined) t.regex(one?.remedy ?? '', remedy);
      if (['warn', 'fail'].includes(FINDINGS[id].level)) t.truthy(one?.remedy, 'what is wrong has a remedy');
      for (const { message } of found) t.notRegex(message, /[\n\u001b]/);
    });
  }
}

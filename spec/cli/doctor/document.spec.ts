/** docs/doctor.md compared with the tables of findings. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { FINDINGS } from '../../../cli/doctor/findings.js';
import { PROJECT_ROOT } from '../../helpers/files.js';

const TEXT = readFileSync(join(PROJECT_ROOT, 'docs/doctor.md'), 'utf8');

/** The rows of its tables: id, level, meaning, remedy. */
const ROWS = [...TEXT.matchAll(/^\| `([a-z-]+-[a-z-]+)` \| (\w+) \| (.*?) \| (.*?) ?\|$/gm)].map(
  ([, id = '', level = '', meaning = '', remedy = '']) => ({ id, level, meaning, remedy }),
);

test('docs/doctor.md has each finding as it is', (t) => {
  t.deepEqual(
    Object.fromEntries(ROWS.map(({ id, level, remedy }) => [id, { level, remedy }])),
    Object.fromEntries(
      Object.entries(FINDINGS).map(([id, { level, remedy }]) => [id, { level, remedy: remedy ?? '' }]),
    ) as Record<string, { level: string; remedy: string }>,
  );
  t.is(ROWS.length, Object.keys(FINDINGS).length);
});

test('a remedy is no sentence, and a meaning is one', (t) => {
  for (const { id, meaning, remedy } of ROWS) {
    t.regex(meaning, /^[A-Z].*\.$/, id);
    if (remedy !== '') t.regex(remedy, /[^.]$/, id);
  }
});

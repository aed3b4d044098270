/** docs/doctor.md compared with the tables of findings. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { FINDINGS } from '../../../cli/doctor/findings.js';
import { PROJECT_ROOT } from '../../helpers/files.js';

const TEXT = readFileSync(join(PROJECT_ROOT, 'docs/doctor.md'), 'utf8');

test('docs/doctor.md has each finding as it is', (t) => {
  const rows = [...TEXT.matchAll(/^\| `([a-z-]+-[a-z-]+)` \| (.*?) \|$/gm)].map(([, id, row]) => [id, row?.trim()]);
  t.deepEqual(
    Object.fromEntries(rows) as Record<string, string>,
    Object.fromEntries(
      Object.entries(FINDINGS).map(([id, { level, meaning, remedy }]) => [
        id,
        `${level} | ${meaning} | ${remedy ?? ''}`.trim(),
      ]),
    ),
  );
  t.is(rows.length, Object.keys(FINDINGS).length);
});

test('a remedy is no sentence, and a meaning is one', (t) => {
  for (const [id, { meaning, remedy }] of Object.entries(FINDINGS)) {
    t.regex(meaning, /^[A-Z].*\.$/, id);
    if (remedy !== null) t.regex(remedy, /[^.]$/, id);
  }
});

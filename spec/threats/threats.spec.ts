/** Each threat has its guard in docs/security.md, and specs that exist. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { specFault, THREATS } from './threats.js';

/** The rows of the table of threats: its number, and the files of its specs. */
function documentedThreats(): Map<string, string[]> {
  const text = readFileSync('docs/security.md', 'utf8');
  const section = /^## Threats$[^]*?(?=^## )/m.exec(text)?.[0] ?? '';
  const rows = section.split('\n').flatMap((line) => {
    const [, id, , , specs] = line.split('|').map((cell) => cell.trim());
    return id !== undefined && /^T\d+$/.test(id) ? [[id, specs ?? ''] as const] : [];
  });
  return new Map(rows.map(([id, specs]) => [id, [...specs.matchAll(/`([^`]+)`/g)].map(([, file]) => file ?? '')]));
}

for (const { id, specs } of THREATS) {
  test(`${id}: the specs that show its guard are there`, (t) => {
    t.true(specs.length > 0);
    for (const place of specs) t.is(specFault(place), null);
  });
}

test('the document has the same threats, with the files of the same specs', (t) => {
  const documented = documentedThreats();
  t.deepEqual(
    [...documented.keys()],
    THREATS.map(({ id }) => id),
  );
  t.deepEqual(
    THREATS.map(({ id }) => id),
    Array.from({ length: 30 }, (_, index) => `T${index + 1}`),
  );
  for (const { id, specs } of THREATS) {
    const files = [...new Set(specs.map(([file]) => file))].sort();
    t.deepEqual([...(documented.get(id) ?? [])].sort(), files, id);
  }
});

/** Each threat has its guard in docs/security.md, and specs that exist. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { specFault, THREATS } from './threats.js';

for (const [id, specs] of Object.entries(THREATS)) {
  test(`${id}: the specs that show its guard exist`, (t) => {
    t.true(Object.keys(specs).length > 0);
    for (const [file, titles] of Object.entries(specs))
      for (const title of titles) t.is(specFault([file, title]), null);
  });
}

test('the document has the same threats, with the files of the same specs', (t) => {
  const section = /^## Threats$[^]*?(?=^## )/m.exec(readFileSync('docs/security.md', 'utf8'))?.[0] ?? '';
  const documented = [...section.matchAll(/^\| (T\d+) \|.*\| (.*?) \|$/gm)].map(([, id = '', specs = '']) => [
    id,
    [...specs.matchAll(/`([^`]+)`/g)].map(([, file = '']) => file).sort(),
  ]);
  const tested = Object.entries(THREATS).map(([id, specs]) => [id, Object.keys(specs).sort()]);
  t.deepEqual(documented, tested);
  t.is(documented.length, 30);
});
